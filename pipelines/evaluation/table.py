"""The table of scores: metrics with what they depend on, and the reasons of those that are missing."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tabulate import tabulate

from common.files import hashed, read_json, write_text

WIDTH = 100
"""Characters of a terminal's line."""
ROUNDING = 1e-9
"""What is below is 0 but for rounding."""


@dataclass(frozen=True)
class Unavailable:
    """Stands in the place of what can't be computed, and says why."""

    reason: str
    value: None = field(default=None, init=False)
    text: ClassVar[str] = "-"
    note: ClassVar[None] = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured value, which is finite, as `metric` sees to."""

    value: float
    spread: float | None = None
    """Standard deviation, or half of an interval, as `note` says."""
    unit: str = ""
    """`%` for a share: the value is from 0 to 1, its text in percent."""
    reason: None = field(default=None, init=False)
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

    @property
    def text(self) -> str:
        """Four significant digits and the spread, or percent."""
        if self.unit == "%":
            return f"{100 * self.value:.1f} %"
        if abs(self.value) < ROUNDING:
            return "0"
        spread = "" if self.spread is None else f" ± {self.spread:.2g}"
        return f"{self.value:.4g}{spread}"


Metrics = dict[str, Metric | Unavailable]
"""By their names."""


def metric(value: float, spread: float | None = None, **about: Any) -> Metric | Unavailable:
    """A value with what is known `about` it; one that is not finite is unavailable, such a spread is left out."""
    if not math.isfinite(value):
        return Unavailable(f"the value is {value}, not a finite number")
    if spread is not None and not math.isfinite(spread):
        spread = None
    return Metric(value=value, spread=spread, **about)


@dataclass(frozen=True)
class ScoredSet:
    """What was scored, and its metrics."""

    name: str
    meaning: str
    metrics: Metrics = field(default_factory=dict)


Line = tuple[str, list[tuple[Metric | Unavailable | None, str]]]
"""A metric's name, and its values and texts in the order of the sets; None and nothing where it is not defined."""


def table_lines(sets: list[ScoredSet]) -> list[Line]:
    """A line for each metric, in the order of their first appearance.

    Where the counts of a line's items differ, so that its values do not compare quite, each text has its own.
    """
    lines = []
    for name in dict.fromkeys(name for each in sets for name in each.metrics):
        metrics = [each.metrics.get(name) for each in sets]
        counts = {m.count for m in metrics if isinstance(m, Metric) and m.count}
        lines.append((name, [(m, cell(m, with_count=len(counts) > 1)) for m in metrics]))
    return lines


def cell(metric: Metric | Unavailable | None, with_count: bool) -> str:
    """The text of a metric, perhaps with its count in parentheses."""
    if metric is None:
        return ""
    counted = with_count and isinstance(metric, Metric) and metric.count
    return f"{metric.text} ({metric.count:,})" if counted else metric.text  # type: ignore[union-attr]


@dataclass(frozen=True)
class NotedTable:
    """A table as texts, what its notes say, and the metrics that nothing could be computed of."""

    lines: list[list[str]]
    """The name of each metric and the texts of its values, with the numbers of their notes."""
    notes: list[str]
    """In the order of their numbers, which begin at 1."""
    missing: dict[str, str]
    """By the metric's name, the reason."""


def noted_table(sets: list[ScoredSet]) -> NotedTable:
    """The sets' metrics, a line each."""
    numbers: dict[str, int] = {}
    lines, missing = [], {}
    for name, cells in table_lines(sets):
        reasons = [metric.reason for metric, _ in cells if isinstance(metric, Unavailable)]
        if any(isinstance(metric, Metric) for metric, _ in cells):
            lines.append(with_marks(name, cells, numbers))
        else:
            missing[name] = reasons[0]
    return NotedTable(lines, [*numbers], missing)


def text_table(sets: list[ScoredSet]) -> str:
    """The table for a terminal: a line per metric, a column per set, in as many blocks as a terminal's width takes.

    An empty cell means that the metric isn't defined there, a dash that it could not be computed. Numbers in brackets
    are those of the notes below. Metrics that nothing could be computed of are one line at the end.
    """
    table = noted_table(sets)
    header = ["", *(each.name for each in sets)]
    groups = column_groups([header, *table.lines])
    parts = ["\n".join(block(header, table.lines, chosen)) for chosen in groups]
    parts.append("\n".join(f"[{i}] {text}" for i, text in enumerate(table.notes, start=1)))
    missing = "; ".join(f"{name} ({reason})" for name, reason in table.missing.items())
    parts += [f"not computed: {missing}"] if missing else []
    return "\n\n".join(filter(None, parts))


def with_marks(
    name: str, cells: list[tuple[Metric | Unavailable | None, str]], numbers: dict[str, int]
) -> list[str]:
    """A line's texts with the numbers of their notes, at its name where all have the same."""
    notes = [(metric.reason or metric.note) if metric else None for metric, _ in cells]
    marks = [f" [{numbers.setdefault(note, len(numbers) + 1)}]" if note else "" for note in notes]
    there = {mark for mark, (metric, _) in zip(marks, cells, strict=True) if metric}
    if len(there) == 1:
        return [name + there.pop(), *(text for _, text in cells)]
    return [name, *(text + mark for mark, (_, text) in zip(marks, cells, strict=True))]


def column_groups(lines: list[list[str]]) -> list[list[int]]:
    """The columns after the first, in groups that fit into a terminal's width beside the first; at least one each."""
    widths = [2 + max(map(len, column)) for column in zip(*lines, strict=True)]
    groups: list[list[int]] = [[]]
    for column, width in enumerate(widths[1:], start=1):
        if groups[-1] and widths[0] + sum(widths[i] for i in groups[-1]) + width > WIDTH:
            groups.append([])
        groups[-1].append(column)
    return groups


def block(header: list[str], lines: list[list[str]], columns: list[int]) -> list[str]:
    """Some columns of the table, with the lines that have something in one of them."""
    kept = [line for line in lines if any(line[column] for column in columns)]
    cells = [[line[0], *(line[column] for column in columns)] for line in [header, *kept]]
    alignment = ["left", *["right"] * len(columns)]
    return tabulate(cells, tablefmt="plain", colalign=alignment, disable_numparse=True).splitlines()


def write_scores(
    folder: Path,
    sets: list[ScoredSet],
    provenance: dict[str, Any],
    protocols: dict[str, Any] | None = None,
) -> None:
    """Writes score.json: every metric with what it depends on, and what other protocols give, where they were asked for."""
    document: dict[str, Any] = {"rows": [asdict(each) for each in sets]}
    document |= {"protocols": protocols} if protocols else {}
    document["provenance"] = provenance
    write_text(folder / "score.json", json.dumps(hashed(document), indent=2) + "\n")


def read_scores(folder: Path) -> list[ScoredSet]:
    """The sets of a folder's score.json. Raises ValueError for a file that is damaged or not of this project."""
    path = folder / "score.json"
    document = read_json(path)
    if not isinstance(document["rows"], list):
        raise ValueError(f"{path} is of another version: score again")
    return sets_of(document)


def sets_of(document: dict[str, Any]) -> list[ScoredSet]:
    """The sets of a score.json, there `rows`, in which `metrics` were called `numbers` at first; none of an empty one."""
    sets = []
    for row in document.get("rows", []):
        metrics = row["metrics" if "metrics" in row else "numbers"]
        read = {name: read_metric(**values) for name, values in metrics.items()}
        sets.append(ScoredSet(row["name"], row["meaning"], read))
    return sets


def read_metric(
    value: float | None, reason: str | None = None, **about: Any
) -> Metric | Unavailable:
    """What score.json has of one metric."""
    return Metric(value=value, **about) if value is not None else Unavailable(reason or "")
