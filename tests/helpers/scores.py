"""What a score.json says."""

import json
from pathlib import Path
from typing import Any


def metrics_by_row(report: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The metrics of each row, of the score.json beside a report."""
    rows = json.loads((report.parent / "score.json").read_text())["rows"]
    return {row["name"]: row["metrics"] for row in rows}
