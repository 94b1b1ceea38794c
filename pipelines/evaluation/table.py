"""The table of scores: metrics with what they depend on, and the reasons of those that are missing."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tabulate import tabulate

from common.files import write_text


@dataclass(frozen=True)
class Unavailable:
    """Stands in the place of what can't be computed, and says why."""

    reason: str
    value: None = field(default=None, init=False)
    text: ClassVar[str] = "-"
    note: ClassVar[None] = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured value; a value that is not finite becomes a reason."""

    value: float | None
    spread: float | None = None
    """Standard deviation, of what `note` says."""
    reason: str | None = None
    """Why `value` is missing."""
    note: str | None = None
    count: int | None = None
    """Items that were measured."""
    extractor: str | None = None
    """Whose features were compared."""
    extractor_sha256: str | None = None
    reference: str | None = None
    """What it was compared with."""
    reference_count: int | None = None
    reference_sha256: str | None = None
    """Of the reference's statistics, statistics.npz."""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "reason", f"the value is {self.value}, not a finite number")
            object.__setattr__(self, "value", None)
            object.__setattr__(self, "spread", None)

    @property
    def text(self) -> str:
        """Four significant digits, and the spread; a dash for a missing value."""
        if self.value is None:
            return "-"
        spread = "" if self.spread is None else f" ± {self.spread:.2g}"
        return f"{self.value:.4g}{spread}"


Metrics = dict[str, Metric | Unavailable]
"""By their names."""


@dataclass(frozen=True)
class ScoreRow:
    """What was scored, and its metrics."""

    name: str
    meaning: str
    metrics: Metrics = field(default_factory=dict)


def metric_names(rows: list[ScoreRow]) -> list[str]:
    """Every metric once, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def footnotes(rows: list[ScoreRow]) -> dict[str, str]:
    """Reasons and notes, each with the places it belongs to."""
    places: dict[str, list[str]] = {}
    for name in metric_names(rows):
        for row in rows:
            if name in row.metrics:
                text = row.metrics[name].reason or row.metrics[name].note
                places.setdefault(text or "", []).append(f"{name}, {row.name}")
    return {text: "; ".join(where) for text, where in places.items() if text}


def text_table(rows: list[ScoreRow]) -> str:
    """The table for a terminal: a line per metric, a column per row, then the reasons and notes.

    An empty cell means that the metric isn't defined there, a dash that it could not be computed. Where the
    counts of a line's items differ, so that its values do not compare quite, each cell has its own.
    """
    lines = [["", *(row.name for row in rows)]]
    for name in metric_names(rows):
        lines.append([name, *cells([row.metrics.get(name) for row in rows])])
    alignment = ["left", *["right"] * len(rows)]
    table = tabulate(lines, tablefmt="plain", colalign=alignment, disable_numparse=True)
    notes = [f"{places}: {text}" for text, places in footnotes(rows).items()]
    return "\n".join([table, "", *notes])


def cells(metrics: list[Metric | Unavailable | None]) -> list[str]:
    """The texts of a line of the table."""
    counts = {metric.count for metric in metrics if isinstance(metric, Metric) and metric.count}
    return [
        ""
        if metric is None
        else f"{metric.text} ({metric.count:,})"
        if isinstance(metric, Metric) and len(counts) > 1 and metric.count
        else metric.text
        for metric in metrics
    ]


def write_scores(folder: Path, rows: list[ScoreRow], provenance: dict[str, Any]) -> None:
    """Writes score.json: every metric with what it depends on."""
    document = {"rows": [asdict(row) for row in rows], "provenance": provenance}
    write_text(folder / "score.json", json.dumps(document, indent=2) + "\n")


def read_scores(folder: Path) -> list[ScoreRow]:
    """The rows of a folder's score.json, in which `metrics` were called `numbers` at first."""
    rows = []
    for row in json.loads((folder / "score.json").read_text())["rows"]:
        metrics: Metrics = {
            name: Unavailable(values["reason"]) if values["value"] is None else Metric(**values)
            for name, values in row["metrics" if "metrics" in row else "numbers"].items()
        }
        rows.append(ScoreRow(row["name"], row["meaning"], metrics))
    return rows
