"""The rows of a study over their seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, mode, stdev

from pipelines.compare.metrics import Measured


@dataclass(frozen=True)
class RowResult:
    """A row over its seeds."""

    name: str
    codebook_size: int
    code_dim: int
    seeds: int
    equal_bits: bool
    levels: int
    """Codes of one position."""
    tuned: dict[str, float]
    """The values that tuning chose, by their keys."""
    values: dict[str, dict[int, float]]
    """The values of each column, by seed."""

    @property
    def has_learned(self) -> bool:
        """Whether the prior is at least as good as a table of bigrams; if not, the row has no gFD."""
        return (self.mean("share of the way") or 0.0) >= 0

    def mean(self, column: str) -> float | None:
        """Over the seeds; None without values."""
        values = self.values.get(column, {}).values()
        return fmean(values) if values else None

    def spread(self, column: str) -> float | None:
        """The standard deviation over the seeds; None for one seed."""
        values = self.values.get(column, {}).values()
        return stdev(values) if len(values) > 1 else None


def lines_of(results: Sequence[Measured]) -> list[RowResult]:
    """The rows in order, each with its values by seed; values that are not finite are left out."""
    groups: dict[tuple[str, int, int], list[Measured]] = {}
    for one in results:
        groups.setdefault((one.row.name, one.row.codebook_size, one.code_dim), []).append(one)
    lines = []
    for (name, size, dim), ones in groups.items():
        values = {
            column: {
                one.seed: value
                for one in ones
                if (value := one.metrics[column]) is not None and math.isfinite(value)
            }
            for column in ones[0].metrics
        }
        equal = all(one.equal_bits for one in ones)
        tuned = {key: values[0] for key, values in ones[0].row.tune.items()}
        line = RowResult(name, size, dim, len(ones), equal, ones[0].levels, tuned, values)
        if not line.has_learned:
            values["gFD"] = {}
        lines.append(line)
    return lines


def of_size(lines: Sequence[RowResult], size: int) -> list[RowResult]:
    """Those of one K."""
    return [line for line in lines if line.codebook_size == size]


def commonest_size(lines: Sequence[RowResult]) -> int:
    """The K that most of them have, the first of several."""
    return mode(line.codebook_size for line in lines)


def tuned_keys(lines: Sequence[RowResult]) -> list[str]:
    """The keys that tuning chose for any of them."""
    return list(dict.fromkeys(key for line in lines for key in line.tuned))
