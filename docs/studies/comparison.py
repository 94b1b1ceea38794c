"""The page on all quantizers: `python docs/studies/comparison.py STUDY [FOLDER ...]` takes over what runs of a study, such
as digits, left in each folder, compare.csv and tuning.csv, then prints the study's tables and saves its figure.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from common.files import write_text
from pipelines.compare.config import CompareRow
from pipelines.compare.figure import plot
from pipelines.compare.lines import RowResult, lines_of
from pipelines.compare.metrics import Measured
from pipelines.compare.table import markdown

HERE = Path(__file__).parents[1] / "comparison"
"""For each study, what was taken over so far: a line for each run."""
TAKEN = {
    "compare.csv": ("row", "codebook_size", "code_dim", "seed"),
    "tuning.csv": ("row", "codebook_size", "code_dim", "key"),
}
"""Files of a study, and the columns of lines that are replaced as a whole."""
TUNED = ("weight", "optim.lr")
SHOWN = (
    *("used", "perplexity", "rFD", "PSNR (dB)", "gFD", "share of the way"),
    *("label accuracy", "prior's bits per item", "effective rank"),
)
EXTRACTOR = "the study's classifier"
Table = list[dict[str, str]]


def read(path: Path) -> Table:
    """A CSV file's lines."""
    return list(csv.DictReader(path.open())) if path.exists() else []


def merged(old: Table, new: Table, keys: Sequence[str]) -> Table:
    """The lines of both, in the order in which they first came; newer ones replace all those with the same keys.

    Raises ValueError where a classifier made the distances of one that did not make those of another.
    """
    if len(hashes := {line.get("extractor_sha256") or "" for line in (*old, *new)} - {""}) > 1:
        raise ValueError(f"distances by different classifiers cannot stand together: {hashes}")
    groups: dict[tuple[str, ...], Table] = {}
    for table in (old, new):
        own: dict[tuple[str, ...], Table] = {}
        for line in table:
            own.setdefault(tuple(line[key] for key in keys), []).append(line)
        groups |= own
    return [line for group in groups.values() for line in group]


def take_over(folder: Path, study: str) -> None:
    """Adds the files of a folder to those of the study."""
    for name, keys in TAKEN.items():
        path = HERE / study / name
        lines = merged(read(path), read(folder / name), keys)
        columns = list(dict.fromkeys(column for line in lines for column in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        write_text(path, text.getvalue())


def measured(line: dict[str, str]) -> Measured:
    """A run, of its line."""
    row = CompareRow(
        name=line["row"],
        codebook_size=int(line["codebook_size"]),
        quantizer={"code_dim": int(line["code_dim"])},
        tune={key: [float(line[key])] for key in TUNED if line[key]},
    )
    metrics = {column: float(line[column]) if line[column] else None for column in SHOWN}
    equal, dim = line["equal_bits"] == "True", int(line["code_dim"])
    return Measured(row, int(line["seed"]), metrics, equal, dim, int(line["levels"]), EXTRACTOR)


def rows(study: str) -> list[RowResult]:
    """The rows of a study over their seeds, by name in the order of its file."""
    return lines_of([measured(line) for line in read(HERE / study / "compare.csv")])


def main(study: str, *folders: str) -> None:
    """Takes over the folders, saves the figure, prints the tables."""
    for folder in folders:
        take_over(Path(folder), study)
    plot(rows(study)).savefig(HERE / study / "figure.png", dpi=75)
    print(markdown(rows(study), EXTRACTOR))


if __name__ == "__main__":
    main(*sys.argv[1:])
