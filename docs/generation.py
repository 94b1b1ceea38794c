"""Does a larger codebook help the prior? What the two studies of configs/compare/ say of SimVQ."""

import csv
from pathlib import Path

from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown

from common.config import load_config
from pipelines.compare.config import CompareConfig

STUDIES = {
    "learned": Path("configs/compare/cifar10_cpu.yaml"),
    "codebook": Path("configs/compare/cifar10_heads.yaml"),
}
"""By the prior's head."""
SHOWN = ("used", "PSNR (dB)", "rFD", "prior's bits per item", "gFD", "label accuracy")
DRAWN = ("rFD", "gFD", "prior's bits per item")
Row = dict[str, str]


def simvq_rows(study: Path) -> list[Row]:
    """The lines of a finished study's compare.csv that are SimVQ's first seed, by K."""
    path = load_config(CompareConfig, study).out / "compare.csv"
    if not path.is_file():
        raise SystemExit(f"{path} is not there: run simvq compare {study}")
    with path.open() as lines:
        rows = [row for row in csv.DictReader(lines) if (row["row"], row["seed"]) == ("SimVQ", "0")]
    return sorted(rows, key=lambda row: int(row["codebook_size"]))


def cell(column: str, text: str) -> str:
    """A number as the table shows it."""
    if column in ("used", "label accuracy"):
        return f"{100 * float(text):.1f} %"
    return f"{float(text):.4g}"


def write() -> Figure:
    """Prints the table; draws both distances and the prior's bits against K."""
    found = {head: simvq_rows(study) for head, study in STUDIES.items()}
    rows = [
        [head, f"{int(row['codebook_size']):,}", *(cell(column, row[column]) for column in SHOWN)]
        for head, lines in found.items()
        for row in lines
    ]
    print(markdown(["head", "K", *SHOWN], rows))
    figure, axes = pyplot.subplots(1, len(DRAWN), figsize=(10, 3), layout="constrained")
    for axis, column in zip(axes, DRAWN, strict=True):
        for head, lines in found.items():
            sizes = [int(row["codebook_size"]) for row in lines]
            axis.plot(sizes, [float(row[column]) for row in lines], "o-", label=f"{head} head")
        axis.set(xscale="log", xlabel="K", title=column)
    axes[-1].legend()
    return figure


if __name__ == "__main__":
    build("generation", write)
