"""What the pages' scripts share: Markdown tables, means with spreads, small figures."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent


def markdown(header: Sequence[str], entries: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose other columns are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *entries]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean_sd(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def bars(axis: Axes, title: str, errors: Mapping[str, float]) -> None:
    """A bar for each method's error, SimVQ's in another colour."""
    colours = ["C1" if "SimVQ" in name else "C0" for name in errors]
    axis.barh(list(errors), list(errors.values()), color=colours)
    axis.set(title=title, xlabel="MSE / variance")


def show_grid(
    axis: Axes, lines: Sequence[np.ndarray], names: Sequence[str], white: int, after: Sequence[int]
) -> None:
    """Named lines (y, x) or (y, x, c) of images under each other, and a rule after so many of them."""
    axis.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=white)
    height = len(lines[0])
    axis.set_yticks([height * (line + 0.5) for line in range(len(lines))], names)
    for line in after:
        axis.axhline(line * height - 0.5, color="C1", lw=2)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def build(name: str, write: Callable[[], Figure]) -> None:
    """Prints what `write` prints and the time it took, and saves its figure as docs/studies/NAME.png."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    figure = write()
    figure.savefig(HERE / f"{name}.png", dpi=75)
    print(f"\n{time.perf_counter() - start:.0f} s on one thread; figure: docs/studies/{name}.png")
