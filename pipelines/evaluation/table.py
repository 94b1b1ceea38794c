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


Line = tuple[str, list[tuple[Metric | Unavailable | None, str]]]
"""A metric's name, and its values and texts in the order of the rows; None and nothing where it is not defined."""


def table_lines(rows: list[ScoreRow]) -> list[Line]:
    """A line for each metric, in the order of their first appearance.

    Where the counts of a line's items differ, so that its values do not compare quite, each text has its own.
    """
    lines = []
    for name in dict.fromkeys(name for row in rows for name in row.metrics):
        metrics = [row.metrics.get(name) for row in rows]
        counts = {m.count for m in metrics if isinstance(m, Metric) and m.count}
        lines.append((name, [(m, cell(m, with_count=len(counts) > 1)) for m in metrics]))
    return lines


def cell(metric: Metric | Unavailable | None, with_count: bool) -> str:
    """The text of a metric, perhaps with its count in parentheses."""
    if metric is None:
        return ""
    counted = with_count and isinstance(metric, Metric) and metric.count
    return f"{metric.text} ({metric.count:,})" if counted else metric.text  # type: ignore[union-attr]


def footnotes(rows: list[ScoreRow]) -> dict[str, str]:
    """Reasons and notes, each with the metrics and rows it belongs to."""
    places: dict[str, list[str]] = {}
    for name, cells in table_lines(rows):
        by_text: dict[str, list[str]] = {}
        for row, (metric, _) in zip(rows, cells, strict=True):
            text = (metric.reason or metric.note) if metric else None
            by_text.setdefault(text or "", []).append(row.name)
        for text, names in by_text.items():
            places.setdefault(text, []).append(f"{name} ({', '.join(names)})")
    return {text: "; ".join(where) for text, where in places.items() if text}


def text_table(rows: list[ScoreRow]) -> str:
    """The table for a terminal: a line per metric, a column per row, then the reasons and notes.

    An empty cell means that the metric isn't defined there, a dash that it could not be computed.
    """
    lines = [["", *(row.name for row in rows)]]
    lines += [[name, *(text for _, text in cells)] for name, cells in table_lines(rows)]
    alignment = ["left", *["right"] * len(rows)]
    table = tabulate(lines, tablefmt="plain", colalign=alignment, disable_numparse=True)
    notes = [f"{places}: {text}" for text, places in footnotes(rows).items()]
    return "\n".join([table, "", *notes])


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
