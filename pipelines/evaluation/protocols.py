"""One set of items scored by several protocols: a table, a figure, and a sentence on which difference explains what."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import pyplot
from tabulate import tabulate

from common.figures import png
from common.files import read_json
from pipelines.evaluation.jackknife import half_interval
from pipelines.evaluation.report import Figure

USUAL_COUNT = 50_000
"""Samples of a published FID."""


@dataclass(frozen=True)
class Outcome:
    """A set's distance by one protocol. Intervals are over the items: other samples of the same model."""

    row: str
    """The set: `samples` or `reconstruction`."""
    metric: str
    protocol: str
    """What is done otherwise than in the table of scores; `as scored` for nothing."""
    value: float
    half: float
    """Half of the value's 95 % interval, by the jackknife over ten groups."""
    difference: float
    """From the distance as scored."""
    difference_half: float
    """Half of the difference's 95 % interval: the same items are scored twice, so it is narrower."""

    @property
    def text(self) -> str:
        """The value and its interval."""
        return f"{self.value:.4g} ± {self.half:.2g}"


def outcome(
    row: str,
    metric: str,
    protocol: str,
    values: Float[np.ndarray, " _"],
    base: Float[np.ndarray, " _"],
) -> Outcome:
    """The outcome of a protocol: `values` are its distance and those without each group, `base` the same as scored."""
    change = values - base
    return Outcome(
        row,
        metric,
        protocol,
        float(values[0]),
        half_interval(values),
        float(change[0]),
        half_interval(change),
    )


def extrapolated(
    whole: Float[np.ndarray, " _"], halves: Float[np.ndarray, " _"], count: int, wanted: int
) -> Float[np.ndarray, " _"]:
    """The distance of `wanted` items, by that of `count` and of half as many: its bias falls as 1 / count (arXiv 1911.07023)."""
    return whole + (halves - whole) * (count / wanted - 1)


def explanation(outcomes: Sequence[Outcome], paper: float | None) -> str:
    """A sentence on one set: what moves its distance most, or which protocol gives a paper's number."""
    base, *others = outcomes
    name = f"{base.metric} of the {base.row}"
    if paper is None:
        most = max(others, key=lambda each: abs(each.difference))
        return (
            f"{name} is {base.text} as scored (95 %, over the items); what moves it most is `{most.protocol}`: by "
            f"{most.difference:+.3g} ± {most.difference_half:.2g}, to {most.value:.4g}."
        )
    if abs(paper - base.value) <= base.half:
        return f"The paper's {paper:g} lies within the interval of the {name}, {base.text}: no difference is to be explained."
    nearest = min(
        others, key=lambda each: (abs(each.value - paper) > each.half, abs(each.value - paper))
    )
    if abs(nearest.value - paper) <= nearest.half:
        return (
            f"The paper's {paper:g} is not the {name} as scored, {base.text}, but within the interval of "
            f"`{nearest.protocol}`, {nearest.text}: that difference alone would explain it."
        )
    closed = 1 - abs(nearest.value - paper) / abs(base.value - paper)
    nearer = (
        f"`{nearest.protocol}` comes nearest with {nearest.text} ({max(closed, 0):.0%} of the way)"
    )
    return (
        f"No single protocol turns the {name}, {base.text}, into the paper's {paper:g}: {nearer}; several "
        "differences together, other weights or other items must explain the rest."
    )


def explanations(outcomes: Sequence[Outcome], paper: float | None) -> list[str]:
    """A sentence for each set; the paper's number is of the samples, or without samples of the reconstructions."""
    rows = list(dict.fromkeys(each.row for each in outcomes))
    return [
        explanation(
            [each for each in outcomes if each.row == row], paper if row == rows[-1] else None
        )
        for row in rows
    ]


def protocols_table(outcomes: Sequence[Outcome]) -> str:
    """A line for each protocol of each set, for a terminal."""
    cells = [
        [
            each.row,
            each.protocol,
            each.text,
            f"{each.difference:+.3g} ± {each.difference_half:.2g}" if each.difference_half else "",
        ]
        for each in outcomes
    ]
    header = ["", "protocol", outcomes[0].metric.split(" vs ")[0], "difference"]
    return tabulate(cells, header, tablefmt="plain", disable_numparse=True)


def protocols_json(outcomes: Sequence[Outcome], sentences: Sequence[str]) -> dict[str, Any]:
    """For score.json."""
    return {"sentences": [*sentences], "outcomes": [asdict(each) for each in outcomes]}


def read_protocols(folder: Path) -> str:
    """The table and the sentences of a folder's score.json, for a terminal; empty where there are none."""
    saved = read_json(folder / "score.json")
    if "protocols" not in saved:
        return ""
    outcomes = [Outcome(**each) for each in saved["protocols"]["outcomes"]]
    return "\n\n".join([protocols_table(outcomes), "\n".join(saved["protocols"]["sentences"])])


def protocols_figure(outcomes: Sequence[Outcome], sentences: Sequence[str]) -> Figure:
    """The differences of each set's distance, with their intervals."""
    return Figure("Protocols", " ".join(sentences), png(plot(outcomes)))


def plot(outcomes: Sequence[Outcome]) -> pyplot.Figure:
    """A panel for each set, a line for each protocol."""
    rows = list(dict.fromkeys(each.row for each in outcomes))
    counts = [sum(each.row == row for each in outcomes) for row in rows]
    figure, panels = pyplot.subplots(
        len(rows),
        figsize=(8, 0.8 * len(rows) + 0.3 * len(outcomes)),
        layout="constrained",
        squeeze=False,
        gridspec_kw={"height_ratios": counts},
    )
    for row, axes in zip(rows, panels[:, 0], strict=True):
        own = [each for each in outcomes if each.row == row][::-1]
        values, halves = [each.value for each in own], [each.half for each in own]
        axes.errorbar(values, range(len(own)), xerr=halves, fmt="o", capsize=3)
        axes.axvline(own[-1].value, linestyle=":", color="grey")
        axes.set_yticks(range(len(own)), [each.protocol for each in own])
        axes.set_title(f"{own[0].metric.split(' vs ')[0]}, {row}", loc="left")
    return figure
