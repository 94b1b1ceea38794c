"""The table of scores: numbers with what they depend on, and dashes with their reasons."""

import math
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Number:
    """One measured number, or the reason why there is none."""

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


@dataclass(frozen=True)
class Row:
    """What was scored, and its scores by the metrics' names."""

    name: str
    meaning: str
    numbers: dict[str, Number] = field(default_factory=dict)


def difference(a: Number, b: Number, note: str) -> Number:
    """a - b with the provenance of a, or a dash with the first reason."""
    if a.value is None or b.value is None:
        return replace(a, value=None, spread=None, reason=a.reason or b.reason, note=None)
    return replace(a, value=a.value - b.value, spread=None, note=note)


def metric_names(rows: list[Row]) -> list[str]:
    """Every metric once, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.numbers))


def footnotes(rows: list[Row]) -> dict[str, list[str]]:
    """Reasons and notes, each with the places it belongs to."""
    found: dict[str, list[str]] = {}
    for name in metric_names(rows):
        for row in rows:
            number = row.numbers.get(name)
            text = number and (number.reason or number.note)
            if text:
                found.setdefault(text, []).append(f"{name}, {row.name}")
    return found


def text_table(rows: list[Row]) -> str:
    """The table for a terminal: a line per metric, a column per row, then the reasons and notes.

    An empty cell means that the metric isn't defined there, a dash that it could not be computed.
    """
    lines = [["", *(row.name for row in rows)]]
    for name in metric_names(rows):
        cells = (row.numbers.get(name) for row in rows)
        lines.append([name, *("" if cell is None else cell.text for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    notes = [f"{'; '.join(places)}: {note}" for note, places in footnotes(rows).items()]
    return "\n".join([*text, "", *notes])
