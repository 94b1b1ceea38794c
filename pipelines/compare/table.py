"""A study's tables: every metric as CSV, means over seeds in Markdown."""

import csv
import io
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.stats import ttest_1samp

from pipelines.compare.lines import RowResult, of_size, tuned_keys
from pipelines.compare.metrics import IMAGES, RUN, SPEECH, Measured

OF_ONE_CODEBOOK = ("used", "perplexity")
"""Columns in which rows with several levels, counted as one list, do not compete."""
SIGNIFICANT = 0.05
"""A difference with a larger p-value does not count."""
ABOUT = ("row", "codebook_size", "code_dim", "seed", "equal_bits", "levels", "extractor_sha256")
"""The first columns of the CSV file."""
BETTER = {column.name: column.better for column in (*IMAGES, *SPEECH, *RUN)}


def csv_text(results: Sequence[Measured]) -> str:
    """A line for every row and seed, its metrics in full."""
    text = io.StringIO()
    columns = list(results[0].metrics) if results else []
    keys = list(dict.fromkeys(key for one in results for key in one.row.tune))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*ABOUT, *keys, *columns])
    for one in results:
        values = ["" if (v := one.metrics[c]) is None else repr(v) for c in columns]
        about = [
            one.row.name,
            one.row.codebook_size,
            one.code_dim,
            one.seed,
            one.equal_bits,
            one.levels,
            one.extractor_sha256,
        ]
        tuned = [one.row.tune.get(key, [""])[0] for key in keys]
        writer.writerow([*about, *tuned, *values])
    return text.getvalue()


def markdown(lines: Sequence[RowResult], extractor: str) -> str:
    """The table, a paragraph per K, and what its marks mean."""
    parts = []
    keys = tuned_keys(lines)
    for size in sorted({line.codebook_size for line in lines}):
        same = of_size(lines, size)
        columns = list(same[0].values)
        best = {c: indistinguishable(same, c) for c in columns}
        parts.append(f"**K = {size:,}**\n")
        parts.append(f"| quantizer | d | seeds | {' | '.join([*keys, *columns])} |")
        parts.append(f"| --- |{' ---: |' * (len(keys) + len(columns) + 2)}")
        for line in same:
            cells = [tuned_cell(line, key) for key in keys]
            cells += [cell(line, c, line in best[c]) for c in columns]
            mark = "" if line.equal_bits else " \\*"
            first = f"| {line.name}{mark} | {line.code_dim} | {line.seeds} |"
            parts.append(f"{first} {' | '.join(cells)} |")
        parts.append("")
    return "\n".join([*parts, legend(lines, extractor).replace("*", "\\*"), ""])


def legend(lines: Sequence[RowResult], extractor: str) -> str:
    """What distances and marks mean."""
    spread = "Bold: the best of a column"
    if any(line.seeds > 1 for line in lines):
        spread += (
            ", and the rows that do not differ from it significantly: paired t-test over the seeds, "
            "Holm's correction over the column, 5 %"
        )
    if any(line.seeds == 1 for line in lines):
        spread += ". Rows with one seed have no spread: differences to them may be chance"
    keys = ", ".join(tuned_keys(lines))
    tuned = f" {keys}: the best values of short runs, which tuning.csv lists." if keys else ""
    levels = ""
    if any(line.levels > 1 for line in lines):
        levels = (
            " Where a position has several codes, used and perplexity count those of all levels as one list, and do "
            "not compete."
        )
    return (
        f"{spread}.{tuned}{levels} *: a position does not carry log2 K bits; such rows do not "
        "compete. rFD and gFD: Frechet distances from reconstructions to held-out items and from "
        f"samples to training items, on features of {extractor}. Share of the way: 0 is a table of "
        "bigrams of the codes, 1 is what the tokenizer allows; a prior below 0 counts as not "
        "learned and has no gFD. Prior's bits: of validation items, by which its weights were "
        "chosen. Quantization error: mean squared, in units of the latents' variance. Step times "
        "include the effect of rows that ran at the same time."
    )


def indistinguishable(lines: Sequence[RowResult], column: str) -> list[RowResult]:
    """The rows with the best mean, and those that a paired t-test over the seeds does not set apart from it.

    Left out are rows that do not carry log2 K bits, and, for columns of codebook use, rows with several codes per
    position. Columns in which neither high nor low is better, or fewer than two rows compete, have no best row. A
    row that shares fewer than two seeds with the best is not tested.
    """
    better = BETTER.get(column, "neither")
    measured = [line for line in lines if line.equal_bits and line.mean(column) is not None]
    if column in OF_ONE_CODEBOOK:
        measured = [line for line in measured if line.levels == 1]
    if better == "neither" or len(measured) < 2:
        return []
    choose = max if better == "high" else min
    best = choose(measured, key=lambda line: line.mean(column) or 0.0)
    others = [line for line in measured if line is not best and shared_seeds(line, best, column)]
    apart = holm([paired_p(line, best, column) for line in others])
    equal = [line for line in measured if line.mean(column) == best.mean(column)]
    return equal + [
        o for o, p in zip(others, apart, strict=True) if p > SIGNIFICANT and o not in equal
    ]


def shared_seeds(a: RowResult, b: RowResult, column: str) -> list[int]:
    """The seeds that both have a value of, where there are several."""
    seeds = sorted(a.values[column].keys() & b.values[column].keys())
    return seeds if len(seeds) > 1 else []


def paired_p(a: RowResult, b: RowResult, column: str) -> float:
    """The chance of paired differences as far from 0 as these, by the t distribution (two-sided)."""
    seeds = shared_seeds(a, b, column)
    differences = [a.values[column][seed] - b.values[column][seed] for seed in seeds]
    if stdev(differences) == 0:
        return float(fmean(differences) == 0)
    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(chances: Sequence[float]) -> list[float]:
    """Holm's correction: the smallest of n chances times n, the next times n - 1, never falling."""
    adjusted, largest = [1.0] * len(chances), 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        largest = max(largest, min(1.0, chances[index] * (len(chances) - rank)))
        adjusted[index] = largest
    return adjusted


def tuned_cell(line: RowResult, key: str) -> str:
    """The value that was chosen of a key, a dash where it was not tuned."""
    return f"{line.tuned[key]:g}" if key in line.tuned else "-"


def cell(line: RowResult, column: str, best: bool) -> str:
    """A value with its spread, a share as per cent, a dash where there is none."""
    value, spread = line.mean(column), line.spread(column)
    if column == "gFD" and not line.has_learned:
        return "not learned"
    if value is None:
        return "-"
    if column in ("used", "label accuracy"):
        text = f"{100 * value:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}") + " %"
    else:
        text = f"{value:.4g}" + (
            "" if spread is None else f" ± {spread:.{2 if spread < 100 else 4}g}"
        )
    if (count := len(line.values[column])) < line.seeds:
        text += f" (n = {count})"
    return f"**{text}**" if best else text
