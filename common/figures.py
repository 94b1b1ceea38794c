"""Figures and their PNG: curves over the steps and the histogram of the codes."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Int
from torch import Tensor

from common.files import replaced_file

matplotlib.use("Agg")
from matplotlib import pyplot

DPI = 200
"""Pixels per inch: sharp on screens of two pixels per point."""
Curves = dict[str, tuple[Sequence[float], Sequence[float]]]
"""By their names, steps and values."""


def histogram(counts: Int[Tensor, " k"]) -> pyplot.Figure:
    """How often each code was chosen, codes sorted by use, on logarithmic axes."""
    ordered = counts.sort(descending=True).values.cpu().numpy()
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    axes.plot(np.arange(1, len(ordered) + 1), np.maximum(ordered, 0.5))
    axes.axhline(ordered.mean(), linestyle=":", color="grey", label="if all were equal")
    axes.set(xscale="log", yscale="log", xlabel="codes, the most used first", ylabel="times chosen")
    used = float((counts > 0).float().mean())
    axes.set_title(f"{len(ordered)} codes, {used:.1%} used by {int(counts.sum()):,} choices")
    axes.legend()
    return figure


def plot_curves(curves: Curves, ylabel: str) -> pyplot.Figure:
    """Named (steps, values) pairs over the training steps; those called `baseline/` are dotted."""
    figure, axes = pyplot.subplots(figsize=(5.4, 3), layout="constrained")
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, ":" if name.startswith("baseline/") else "-", label=name)
    axes.set(xlabel="step", ylabel=ylabel)
    if len(curves) > 1:
        figure.legend(loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    return figure


def png(figure: pyplot.Figure) -> bytes:
    """A figure as PNG; closes it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    pyplot.close(figure)
    return buffer.getvalue()


def save_figure(figure: pyplot.Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all, and closes it."""
    with replaced_file(path) as partial:
        partial.write_bytes(png(figure))
