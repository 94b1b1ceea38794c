"""A study's figure: small multiples in which SimVQ has colour and the rest is grey, each named where it stands."""

from collections import Counter
from collections.abc import Sequence

import matplotlib

from pipelines.compare.lines import RowResult, commonest_size, of_size

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

PLOTTED = ("used", "rFD", "gFD")
"""Columns with a panel each."""
OURS, VARIANTS, OTHERS = "tab:blue", "#85b4dc", "#8a8f94"
"""Colours of SimVQ, of its variants, and of the rest."""
WIDE = 8
"""Ratio of the largest to the smallest value above which an axis is logarithmic."""
LABEL = 0.065
"""Height of a label beside the curves, as a share of the panel's."""


def plot(lines: Sequence[RowResult]) -> pyplot.Figure:
    """Curves over K, if there are several, and below them all rows at the most frequent K."""
    curves = {name: own for name, own in by_name(lines).items() if len(own) > 1}
    size = commonest_size(lines)
    same = of_size(lines, size)
    heights = [3.2] * bool(curves) + [1.0 + 0.2 * len(same)]
    figure, grid = pyplot.subplots(
        len(heights),
        len(PLOTTED),
        figsize=(12, sum(heights)),
        layout="constrained",
        squeeze=False,
        height_ratios=heights,
    )
    if curves:
        for axis, column in zip(grid[0], PLOTTED, strict=True):
            plot_curves(axis, column, curves)
    ordered = sorted(same, key=lambda line: line.mean("rFD") or 0.0, reverse=True)
    for axis, column in zip(grid[-1], PLOTTED, strict=True):
        plot_rows(axis, column, ordered)
        axis.set_title(f"{column} at K = {size:,}", loc="left")
    name_rows(grid[-1], ordered)
    return figure


def name_rows(axes: Sequence[Axes], lines: Sequence[RowResult]) -> None:
    """Writes the names of the lines beside the first of panels, with d where a name is there twice."""
    times = Counter(line.name for line in lines)
    names = [f"{o.name}, d = {o.code_dim}" if times[o.name] > 1 else o.name for o in lines]
    axes[0].set_yticks(range(len(names)), names, fontsize="small")
    for label, line in zip(axes[0].get_yticklabels(), lines, strict=True):
        label.set_color(colour(line.name))
    for axis in axes[1:]:
        axis.set_yticks(range(len(names)), [])


def by_name(lines: Sequence[RowResult]) -> dict[str, list[RowResult]]:
    """The lines of each quantizer in the order of K, the first where there are several of one K."""
    groups: dict[str, dict[int, RowResult]] = {}
    for line in lines:
        groups.setdefault(line.name, {}).setdefault(line.codebook_size, line)
    return {name: [own[size] for size in sorted(own)] for name, own in groups.items()}


def colour(name: str) -> str:
    """That of a quantizer."""
    if name == "SimVQ":
        return OURS
    return VARIANTS if name.startswith("SimVQ") else OTHERS


def plot_curves(axis: Axes, column: str, curves: dict[str, list[RowResult]]) -> None:
    """A column against K, a curve for each quantizer, with its name at the right."""
    ends: dict[str, tuple[float, float]] = {}
    for name, own in curves.items():
        points = [(line.codebook_size, line.mean(column), line.spread(column)) for line in own]
        measured = [(x, y, bar or 0.0) for x, y, bar in points if y is not None]
        if measured:
            x, y, bars = zip(*measured, strict=True)
            width, above = (2.5, 3) if name == "SimVQ" else (1.2, 2)
            axis.errorbar(
                *(x, y, bars),
                color=colour(name),
                linewidth=width,
                zorder=above,
                marker="o",
                markersize=4,
                capsize=2,
            )
            ends[name] = x[-1], y[-1]
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted({line.codebook_size for own in curves.values() for line in own}))
    axis.set_xlabel("K")
    axis.set_title(f"{column} against K", loc="left")
    values = [y for _, y in ends.values()]
    if column != "used" and is_wide(values):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
    name_ends(axis, ends)


def is_wide(values: Sequence[float]) -> bool:
    """Whether values need a logarithmic axis."""
    return bool(values) and max(values) > WIDE * min(values) > 0


def name_ends(axis: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Writes the name of each curve beside the panel, at the height of its last point as far as there is room."""
    to_panel = axis.transData + axis.transAxes.inverted()
    heights = {name: float(to_panel.transform(point)[1]) for name, point in ends.items()}
    names = sorted(heights, key=heights.__getitem__)
    for name, height in zip(names, apart([heights[name] for name in names]), strict=True):
        axis.annotate(
            name,
            ends[name],
            (1.05, height),
            textcoords="axes fraction",
            color=colour(name),
            fontsize="small",
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": colour(name), "linewidth": 0.5},
        )


def apart(heights: list[float]) -> list[float]:
    """Rising heights, moved as little as it takes to stand a label's height apart and not above 1."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + LABEL) if moved else height)
    limit = 1.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - LABEL
    return moved


def plot_rows(axis: Axes, column: str, lines: Sequence[RowResult]) -> None:
    """A column's mean and spread of each line, one under the other."""
    values = {i: value for i, line in enumerate(lines) if (value := line.mean(column)) is not None}
    for place, value in values.items():
        bar, shade = lines[place].spread(column) or 0.0, colour(lines[place].name)
        axis.errorbar(value, place, xerr=bar, fmt="o", markersize=5, capsize=2, color=shade)
    axis.set_ylim(-0.7, len(lines) - 0.3)
    axis.grid(axis="y", linewidth=0.4)
    if column == "used":
        axis.set_xlim(-0.03, 1.03)
    elif is_wide([*values.values()]):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
