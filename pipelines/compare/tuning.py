"""compare's tuning: trainings that choose the weight of each quantizer's losses, and the learning rate, before its rows are run."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from omegaconf import OmegaConf

from common.files import hashed, read_json, write_text
from common.tracking import read_metrics
from pipelines.compare.config import CompareConfig, CompareRow
from pipelines.compare.runs import (
    EXPERIMENT,
    experiment_values,
    folder_name,
    run_all,
    write_experiment,
)
from stage1_tokenizer.findings import result_line
from stage1_tokenizer.quantizers import QuantizerConfig

WEIGHTS: dict[str, float] = {
    each.method: each.weight for each in get_args(QuantizerConfig) if hasattr(each, "weight")
}
"""The default of `weight` for each method with this key."""
DEFAULT_METHOD = "simvq"
"""The method of a quantizer without the key `method`."""
LEARNING_RATE = "optim.lr"
"""A key with a dot belongs to the experiment's section tokenizer, any other key to the quantizer."""
SIGNS = {"heldout/psnr": 1, "heldout/mel": -1}
"""The metrics by which candidates are compared: 1 if higher is better, -1 if lower is."""


@dataclass(frozen=True)
class Candidate:
    """One value of a key of a row, and the training that tries it."""

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
    """The rows with their best values, and the names of the tunings in which every candidate failed.

    Keys are tuned one after the other, earlier ones fixed at their best values. Rows whose tuning failed are left
    out. Writes tuning.csv. With tuning.steps=0 the rows are returned as they are.
    """
    if not config.tuning.steps:
        return [*config.rows], []
    led_by = [leader(config, row) for row in config.rows]
    leaders = {folder_name(row): row for row in led_by}
    chosen: dict[str, dict[str, float]] = {name: {} for name in leaders}
    failed: list[str] = []
    groups: list[list[Tried]] = []
    while now := {
        name: group
        for name, row in leaders.items()
        if name not in failed and (group := candidates(config, row, chosen[name]))
    }:
        run_missing(config, [candidate for group in now.values() for candidate in group])
        for name, group in now.items():
            groups.append([read_score(one) for one in group])
            if winner := best(groups[-1]):
                chosen[name][winner.candidate.key] = winner.candidate.value
            else:
                failed.append(name)
    write_text(config.out / "tuning.csv", csv_text(groups))
    named = zip(config.rows, map(folder_name, led_by), strict=True)
    rows = [with_values(row, chosen[name]) for row, name in named if name not in failed]
    return rows, [f"tuning/{name}" for name in failed]


def leader(config: CompareConfig, row: CompareRow) -> CompareRow:
    """The row whose tuning this row uses: the first of its name at tuning.codebook_size that has a quantizer.

    It is the row itself if there is none, and for a row with `tune` or with a trained tokenizer.
    """
    if row.tune or row.tokenizer is not None:
        return row
    size = config.tuning.codebook_size
    same = [
        one
        for one in config.rows
        if one.tokenizer is None and (one.name, one.codebook_size) == (row.name, size)
    ]
    return same[0] if same else row


def keys_and_values(config: CompareConfig, row: CompareRow) -> dict[str, list[float]]:
    """What is tried of a row: its own `tune`, or its weight, where it has one, and the study's learning rates."""
    if row.tune or row.tokenizer is not None:
        return row.tune
    tried: dict[str, list[float]] = {}
    default = row.quantizer.get("weight", WEIGHTS.get(row.quantizer.get("method", DEFAULT_METHOD)))
    if default is not None:
        tried["weight"] = [float(f"{factor * default:.6g}") for factor in config.tuning.factors]
    if config.tuning.learning_rates:
        tried[LEARNING_RATE] = [*config.tuning.learning_rates]
    return tried


def with_values(row: CompareRow, values: Mapping[str, float]) -> CompareRow:
    """A row with values of keys of its quantizer and of its tokenizer's training."""
    own = {key: value for key, value in values.items() if "." not in key}
    settings = OmegaConf.create(row.settings)
    for key in values.keys() - own.keys():
        OmegaConf.update(settings, f"tokenizer.{key}", values[key])
    changed: Any = OmegaConf.to_container(settings)
    tune = {key: [value] for key, value in values.items()}
    return replace(row, quantizer=row.quantizer | own, settings=changed, tune=tune)


def candidates(
    config: CompareConfig, row: CompareRow, chosen: Mapping[str, float]
) -> list[Candidate]:
    """The trainings that try the row's next key after those that are chosen; none where all are."""
    tried = [*keys_and_values(config, row).items()]
    if len(chosen) == len(tried):
        return []
    key, values = tried[len(chosen)]
    return [candidate(config, row, {**chosen, key: value}) for value in values]


def candidate(config: CompareConfig, row: CompareRow, values: Mapping[str, float]) -> Candidate:
    """The training that tries the last of these values, after the others were chosen.

    Its folder is named after the values that differ from the experiment, so trying the experiment's own learning
    rate reuses a run that is already there.
    """
    changed = with_values(row, values)
    plain = experiment_values(config, row.settings)
    different = {
        key: value
        for key, value in values.items()
        if "." not in key or OmegaConf.select(OmegaConf.create(plain["tokenizer"]), key) != value
    }
    name = "-".join(f"{key}-{value:g}" for key, value in different.items()) or "as-it-is"
    folder = config.out / "tuning" / folder_name(row) / f"{config.tuning.steps}-steps" / name
    one = experiment_values(config, changed.settings)
    tokenizer = one["tokenizer"] | {"seed": config.seeds[0], "steps": config.tuning.steps}
    tokenizer["model"] = tokenizer.get("model", {}) | {"quantizer": dict(changed.quantizer)}
    kept = ("modality", "data", "allow_failed")
    training: dict[str, Any] = {name: one[name] for name in kept if name in one}
    training |= {"run_dir": str(folder), "tokenizer": tokenizer}
    key, value = [*values.items()][-1]
    return Candidate(row, key, value, folder, training)


def run_missing(config: CompareConfig, everything: Sequence[Candidate]) -> None:
    """Runs what has no score yet, and writes a score beside what came to its end."""
    missing = [candidate for candidate in everything if read_score(candidate).score is None]
    for candidate in missing:
        write_experiment(candidate.config, candidate.folder / EXPERIMENT)
    ended = run_all(config, [candidate.folder for candidate in missing])
    for candidate, well in zip(missing, ended, strict=True):
        if well:
            last = result_line(read_metrics(candidate.folder / "tokenizer"))
            [measure] = SIGNS.keys() & last.keys()
            saved = {"config": candidate.config, "measure": measure, "score": last[measure]}
            write_text(candidate.folder / "score.json", json.dumps(hashed(saved), indent=2) + "\n")


def read_score(candidate: Candidate) -> Tried:
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


def csv_text(groups: Sequence[Sequence[Tried]]) -> str:
    """A line for every candidate, no score if its run failed; `edge` marks a choice at either end of the values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = ("row", "codebook_size", "code_dim", "key", "value", "measure", "score", "chosen")
    writer.writerow([*about, "edge"])
    for group in groups:
        winner, values = best(group), sorted(one.candidate.value for one in group)
        for one in group:
            row, key, value = one.candidate.row, one.candidate.key, one.candidate.value
            edge = one is winner and value in (values[0], values[-1])
            about_run = (row.name, row.codebook_size, row.code_dim, key, value)
            writer.writerow([*about_run, one.measure, one.score, one is winner, edge])
    return text.getvalue()
