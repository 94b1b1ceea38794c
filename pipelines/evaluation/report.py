"""report.html: the scores and the figures behind them in one file that needs no other."""

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.evaluation.table import Metric, ScoreRow, Unavailable, footnotes, table_lines


@dataclass(frozen=True)
class Figure:
    """A figure of the report, as PNG."""

    title: str
    caption: str
    png: bytes


def figure(title: str, caption: str, save: Callable[[Path], None]) -> Figure:
    """The figure that `save` writes to the path it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        save(path)
        return Figure(title, caption, path.read_bytes())


@dataclass(frozen=True)
class AudioPlayers:
    """Clips of the report, as WAV, to be played."""

    title: str
    caption: str
    clips: dict[str, bytes]
    """By what stands beside each player."""


def render(
    title: str,
    rows: list[ScoreRow],
    figures: Sequence[Figure | AudioPlayers],
    provenance: dict[str, Any],
    findings: Sequence[str] = (),
) -> str:
    """The whole page; `findings` are lines that stand first."""
    environment = Environment(
        loader=PackageLoader("pipelines.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "base64": lambda content: base64.b64encode(content).decode(),
        "tooltip": tooltip,
    }
    return environment.get_template("report.html").render(
        title=title,
        findings=findings,
        rows=rows,
        lines=table_lines(rows),
        footnotes=footnotes(rows),
        figures=figures,
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False),
    )


def tooltip(metric: Metric | Unavailable) -> str:
    """What a metric was computed from: its fields that are set, as one line."""
    fields = asdict(metric).items()
    return ", ".join(f"{name}={value}" for name, value in fields if value is not None)
