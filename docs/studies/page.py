"""What the pages' scripts share: Markdown tables, means with spreads, small figures."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib.figure import Figure

HERE = Path(__file__).parent


def markdown(header: Sequence[str], entries: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose other columns are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *entries]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean_sd(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def build(name: str, write: Callable[[], Figure]) -> None:
    """Prints what `write` prints and the time it took, and saves its figure as docs/studies/NAME.png."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    figure = write()
    figure.savefig(HERE / f"{name}.png", dpi=75)
    print(f"\n{time.perf_counter() - start:.0f} s on one thread; figure: docs/studies/{name}.png")
