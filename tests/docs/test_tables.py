"""The tables on the page on quantizers: each value is one that a study wrote, of which docs/ has the runs."""

import csv
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import pytest
from comparison import EXTRACTOR, merged, rows
from quickstart_tables import DIGITS, SPOKEN_DIGITS, table

from pipelines.compare.table import markdown

ROOT = Path(__file__).parents[2]
SIZES = ("256", "4096", "16384", "65536")


def lines(head: str) -> Iterator[list[str]]:
    """The cells of the table that begins with these words, its head first."""
    _, _, rest = (ROOT / "docs" / "quantizers.md").read_text().partition(f"\n{head}")
    for line in (head + rest).split("\n\n")[0].splitlines():
        if not line.startswith("| ---"):
            yield [cell.strip() for cell in line.replace(r" \*", "").split("|")[1:-1]]


def studied(name: str) -> dict[tuple[str, str], list[dict[str, str]]]:
    """The runs of each quantizer at each K."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for run in csv.DictReader((ROOT / "docs" / name).open()):
        found.setdefault((run["row"], run["codebook_size"]), []).append(run)
    return found


def said(runs: list[dict[str, str]], column: str, like: str) -> str:
    """The mean over the runs, and its standard deviation if there are several, as precise as `like`."""
    values = [float(run[column]) for run in runs if run[column]]
    if not values:
        return ""
    scale, unit = (100, " %") if like.endswith("%") else (1, "")
    digits = len(like.removesuffix(" %").partition(" ")[0].partition(".")[2])
    both = [fmean(values), *([stdev(values)] if len(values) > 1 else [])]
    return " ± ".join(f"{scale * value:,.{digits}f}" for value in both) + unit


@pytest.mark.parametrize(
    ("study", "start", "size"),
    [("cifar10_cpu.csv", "| K = 4,096 |", "4096"), ("fsdd_cpu.csv", "| FSDD, K = 1,024 |", "1024")],
)
def test_each_quantizer_has_a_line_with_the_numbers_of_its_runs(
    study: str, start: str, size: str
) -> None:
    runs = studied(study)
    head, *rows = lines(start)
    columns = [column.partition(" (of")[0] for column in head]
    assert {(row[0], size) for row in rows} == {key for key in runs if key[1] == size}
    for name, dim, weight, *cells in rows:
        mine = runs[name, size]
        assert {dim} == {run["code_dim"] for run in mine}
        assert {weight} == {run["weight"].removesuffix(".0") for run in mine}
        for column, cell in zip(columns[3:], cells, strict=True):
            assert cell == said(mine, column, cell), (name, column)


def test_the_table_over_k_has_the_numbers_of_its_runs() -> None:
    runs = studied("cifar10_cpu.csv")
    head, *rows = lines("| | used: K = 256 |")
    assert len(rows) == 6 and len(head) == 1 + 3 * len(SIZES)
    for name, *cells in rows:
        for (column, size), cell in zip(product(("used", "rFD", "gFD"), SIZES), cells, strict=True):
            assert cell == said(runs.get((name, size), []), column, cell), (name, column, size)


@pytest.mark.parametrize("study", ["digits"])
def test_the_page_on_all_quantizers_has_the_numbers_of_its_runs(study: str) -> None:
    """And says which choices lie at the edge of what was tried."""
    page = (ROOT / "docs" / "comparison.md").read_text()
    lines = [
        line for line in markdown(rows(study), EXTRACTOR).splitlines() if line.startswith("| ")
    ]
    assert len(lines) > 5 and all(line in page for line in lines)
    _, _, edges = page.partition(f"At the edge of what was tried on {study}: ")
    edges = edges.partition("\n")[0]
    for line in csv.DictReader((ROOT / "docs" / "comparison" / study / "tuning.csv").open()):
        if line["chosen"] == "True":
            entry = re.escape(f"{line['row']} ({line['key']})")
            at_edge = re.search(rf"(^|\), ){entry}", edges) is not None
            assert at_edge == (line["edge"] == "True"), line


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_quickstarts_tables_are_those_of_its_runs(page: str) -> None:
    """README leaves out lines."""
    text = (ROOT / page).read_text()
    for name, metrics in (("digits", DIGITS), ("spoken_digits", SPOKEN_DIGITS)):
        made = table(name, metrics)
        _, _, rest = text.partition(made[0])
        there = (made[0] + rest).split("\n\n")[0].splitlines()
        assert len(there) > 5 and set(there) <= set(made)
        assert page == "README.md" or there == made


def test_a_studys_further_runs_replace_what_they_repeat() -> None:
    old = [{"row": "a", "value": "1"}, {"row": "a", "value": "2"}, {"row": "b", "value": "3"}]
    new = [{"row": "a", "value": "4"}, {"row": "c", "value": "5"}]
    values = [line["value"] for line in merged(old, new, ("row",))]
    assert values == ["4", "3", "5"]
    of_others = [{"row": "c", "extractor_sha256": "x"}, {"row": "d", "extractor_sha256": "y"}]
    with pytest.raises(ValueError, match="different classifiers"):
        merged(of_others[:1], of_others[1:], ("row",))
