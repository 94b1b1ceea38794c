"""compare.html: a study's result in words, its figure and its tables, in the design of the reports."""

import json
from collections.abc import Sequence
from typing import Any

from pipelines.compare.figure import PLOTTED
from pipelines.compare.lines import RowResult, commonest_size, of_size, tuned_keys
from pipelines.compare.table import cell, indistinguishable, legend, tuned_cell
from pipelines.evaluation.report import page

OWN = "SimVQ"


def compare_page(
    lines: Sequence[RowResult], extractor: str, figure: bytes, config: dict[str, Any]
) -> str:
    """The whole page; `extractor` names the network whose features the distances compare, `figure` is a PNG."""
    sizes = sorted({line.codebook_size for line in lines})
    return page(
        "compare.html",
        title="Quantizers compared",
        words=compare_words(lines),
        figure=figure,
        columns=[*tuned_keys(lines), *lines[0].values],
        tables={f"K = {size:,}": table(lines, size) for size in sizes},
        legend=legend(lines, extractor),
        config=json.dumps(config, indent=2, ensure_ascii=False),
    )


def table(lines: Sequence[RowResult], size: int) -> list[dict[str, Any]]:
    """The rows of one K, as texts."""
    same = of_size(lines, size)
    best = {column: indistinguishable(same, column) for column in same[0].values}
    keys = tuned_keys(lines)
    return [
        {
            "name": line.name + ("" if line.equal_bits else " *"),
            "own": line.name == OWN,
            "about": [str(line.code_dim), str(line.seeds)],
            "cells": [(tuned_cell(line, key), False) for key in keys]
            + [(cell(line, column, best=False), line in best[column]) for column in best],
        }
        for line in same
    ]


def compare_words(lines: Sequence[RowResult]) -> str:
    """Which rows are best at the K that has most, where SimVQ stands, and what to do next."""
    size = commonest_size(lines)
    same = of_size(lines, size)
    sentences = [f"{len(same)} rows have K = {size:,}."]
    own = next((line for line in same if line.name == OWN), None)
    for column in PLOTTED:
        best = indistinguishable(same, column)
        if not best:
            continue
        names = [line.name for line in best]
        beside = ""
        if own and own.mean(column) is not None and own not in best:
            beside = f"; {OWN} has {cell(own, column, best=False)}"
        listed = f" (not significantly different: {'; '.join(names[1:])})" if names[1:] else ""
        sentences.append(
            f"Best by {column} is {names[0]} with {cell(best[0], column, best=False)}{listed}{beside}."
        )
    if any(line.seeds == 1 for line in same):
        sentences.append(
            "Some rows have one seed, so that their differences may be chance. Next, set seeds to three or more."
        )
    return " ".join(sentences)
