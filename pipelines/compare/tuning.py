"""compare's tuning: short runs choose the weight of each quantizer's losses before its rows are run."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from common.files import hashed, read_json, write_text
from common.tracking import read_metrics
from pipelines.compare.config import CompareConfig, CompareRow
from pipelines.compare.runs import EXPERIMENT, experiment_values, row_name, run_all, write
from stage1_tokenizer.quantizers import QuantizerConfig

WEIGHTS: dict[str, float] = {
    each.method: each.weight for each in get_args(QuantizerConfig) if hasattr(each, "weight")
}
"""The default of the key `weight` of each method that has one."""
SIGNS = {"heldout/psnr": 1, "heldout/mel": -1}
"""Of metrics.jsonl: what short runs are compared by, and whether more of it is better."""


@dataclass(frozen=True)
class Candidate:
    """One value of a key of a row's quantizer, and its short run."""

    row: CompareRow
    key: str
    value: float
    folder: Path
    config: dict[str, Any]
    """Its experiment, of which it makes the tokenizer."""


@dataclass(frozen=True)
class Tried:
    """A candidate, and the last value of its held-out measure; None where its run failed."""

    candidate: Candidate
    measure: str
    score: float | None


def tune(config: CompareConfig) -> tuple[list[CompareRow], list[str]]:
    """The rows with the values that did best in short runs; and the names of tunings that all failed.

    The rows of such a tuning are left out. Writes tuning.csv. Without tuning, the rows as they are.
    """
    if not config.tuning.steps:
        return [*config.rows], []
    leaders = [leader(config, row) for row in config.rows]
    groups = {row_name(row): candidates(config, row) for row in leaders}
    everything = [candidate for group in groups.values() for candidate in group]
    run_missing(config, everything)
    tried = {name: [read(one) for one in group] for name, group in groups.items()}
    chosen = {name: best(group) for name, group in tried.items()}
    write_text(config.out / "tuning.csv", csv_text([*tried.values()], [*chosen.values()]))
    rows = []
    for row, led_by in zip(config.rows, map(row_name, leaders), strict=True):
        if not groups[led_by]:
            rows.append(row)
        elif winner := chosen[led_by]:
            key, value = winner.candidate.key, winner.candidate.value
            rows.append(replace(row, quantizer=row.quantizer | {key: value}, tune={key: [value]}))
    return rows, [f"tuning/{name}" for name in groups if groups[name] and not chosen[name]]


def leader(config: CompareConfig, row: CompareRow) -> CompareRow:
    """The row whose tuning a row shares: the first of its name at the size that tuning is done at."""
    size = config.tuning.codebook_size
    same = [one for one in config.rows if (one.name, one.codebook_size) == (row.name, size)]
    return same[0] if same else row


def candidates(config: CompareConfig, row: CompareRow) -> list[Candidate]:
    """The short runs of a row; none for a quantizer that has no `weight` and names no key to tune."""
    default = row.quantizer.get("weight", WEIGHTS.get(row.quantizer.get("method", "")))
    if row.tune:
        [(key, values)] = row.tune.items()
    elif default is None:
        return []
    else:
        key = "weight"
        values = [float(f"{factor * default:.6g}") for factor in config.tuning.factors]
    short_runs = []
    for value in values:
        folder = config.out / "tuning" / row_name(row) / f"{key}-{value:g}"
        one = experiment_values(config, row.settings)
        short = {"seed": config.seeds[0], "steps": config.tuning.steps}
        tokenizer = one["tokenizer"] | short
        tokenizer["model"]["quantizer"] = row.quantizer | {key: value}
        kept = ("modality", "data", "allow_failed")
        short_run: dict[str, Any] = {name: one[name] for name in kept if name in one}
        short_run |= {"run_dir": str(folder), "tokenizer": tokenizer}
        short_runs.append(Candidate(row, key, value, folder, short_run))
    return short_runs


def run_missing(config: CompareConfig, everything: Sequence[Candidate]) -> None:
    """Runs what has no score yet, and writes a score beside what came to its end."""
    missing = [candidate for candidate in everything if read(candidate).score is None]
    for candidate in missing:
        write(candidate.config, candidate.folder / EXPERIMENT)
    ended = run_all(config, [candidate.folder for candidate in missing])
    for candidate, well in zip(missing, ended, strict=True):
        if well:
            last = read_metrics(candidate.folder / "tokenizer")[-1]
            [measure] = SIGNS.keys() & last.keys()
            saved = {"config": candidate.config, "measure": measure, "score": last[measure]}
            write_text(candidate.folder / "score.json", json.dumps(hashed(saved), indent=2) + "\n")


def read(candidate: Candidate) -> Tried:
    """The score that a run of this very config left."""
    path = candidate.folder / "score.json"
    saved = read_json(path) if path.is_file() else {}
    if saved.get("config") != candidate.config or not math.isfinite(saved["score"]):
        return Tried(candidate, "", None)
    return Tried(candidate, saved["measure"], saved["score"])


def best(group: Sequence[Tried]) -> Tried | None:
    """The one with the best score, where there is any."""
    scored = [
        (SIGNS[one.measure] * score, one) for one in group if (score := one.score) is not None
    ]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def csv_text(groups: Sequence[Sequence[Tried]], chosen: Sequence[Tried | None]) -> str:
    """A line for every candidate; no score where its run failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = ("row", "codebook_size", "code_dim", "key", "value", "measure", "score", "chosen")
    writer.writerow(about)
    for one in (one for group in groups for one in group):
        row, key, value = one.candidate.row, one.candidate.key, one.candidate.value
        won = any(one is winner for winner in chosen)
        about_run = (row.name, row.codebook_size, row.code_dim, key, value)
        writer.writerow([*about_run, one.measure, one.score, won])
    return text.getvalue()
