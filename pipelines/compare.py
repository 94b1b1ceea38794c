"""compare: every quantizer through the same two stages, one table over all."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from common.config import write_text
from pipelines.compare_config import CompareConfig, CompareRow
from pipelines.compare_numbers import measured
from pipelines.compare_table import write_tables

PATHS = {
    "train-tokenizer": {"run_dir": "tokenizer"},
    "encode": {"tokenizer": "tokenizer/model", "out": "codes"},
    "train-prior": {"run_dir": "prior", "codes": "codes", "tokenizer": "tokenizer/model"},
    "sample": {"pipeline": "prior/pipeline", "out": "samples"},
    "score": {
        "tokenizer": "tokenizer/model",
        "samples": "samples",
        "codes": "codes",
        "tokenizer_run": "tokenizer",
        "prior_run": "prior",
    },
}
"""The keys of each verb's config that are paths of a row's own, and where they lead in its folder."""
SEEDED = ("train-tokenizer", "train-prior", "sample")
CEILING = "continuous"
"""The method without codes: it has no prior and no samples."""


def compare(config: CompareConfig) -> Path:
    """Runs what is missing; writes compare.csv, compare.md and compare.png; returns the second.

    Raises ValueError for a row that failed, after the others have ended.
    """
    classify(config)
    runs = [
        (row, seed, prepare(config, row, seed))
        for row in config.rows
        for seed in row.seeds or config.seeds
    ]
    with ThreadPoolExecutor(config.at_once) as pool:
        failed = [name for name in pool.map(lambda run: execute(config, run[2]), runs) if name]
    done = [(row, seed, folder) for row, seed, folder in runs if folder.name not in failed]
    table = write_tables(config, [measured(row, seed, folder) for row, seed, folder in done])
    if failed:
        raise ValueError(
            f"{', '.join(failed)} failed: {config.out}/rows/NAME/log.txt says why; the same command goes on"
        )
    return table


def classify(config: CompareConfig) -> None:
    """Trains the classifier that all rows are scored with, where the experiment has one."""
    if (config.experiment / "train-classifier.yaml").is_file():
        folder = config.out / "configs"
        write(verb_config(config, "train-classifier", ()), folder / "train-classifier.yaml")
        run_verbs(config, folder, config.out / "classifier.txt")


def prepare(config: CompareConfig, row: CompareRow, seed: int) -> Path:
    """The row's folder, with the configs of its verbs."""
    name = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")
    dim = "" if row.code_dim is None else f"-d{row.code_dim}"
    folder = config.out / "rows" / f"{name}-k{row.codebook_size}{dim}-s{seed}"
    for verb in verbs_of(row):
        found = verb_config(config, verb, row.settings)
        if verb == "train-tokenizer":
            found["model"]["quantizer"] = dict(row.quantizer)
        if verb in SEEDED:
            found["seed"] = seed
        write(found | own_paths(row, verb, folder), folder / "configs" / f"{verb}.yaml")
    return folder


def verbs_of(row: CompareRow) -> list[str]:
    """What is run for a row: no training of a tokenizer from elsewhere, no prior where there are no codes."""
    if row.tokenizer is not None:
        return [verb for verb in PATHS if verb != "train-tokenizer"]
    return ["train-tokenizer", "score"] if is_ceiling(row) else [*PATHS]


def own_paths(row: CompareRow, verb: str, folder: Path) -> dict[str, str | None]:
    """The keys of a verb's config that lead to the row's folder, or to its tokenizer from elsewhere."""
    own: dict[str, str | None] = {key: str(folder / place) for key, place in PATHS[verb].items()}
    if row.tokenizer is not None and "tokenizer" in own:
        own["tokenizer"] = str(row.tokenizer)
    if verb == "score" and is_ceiling(row):
        own |= {"samples": None, "codes": None, "prior_run": None, "out": str(folder / "scores")}
    return own


def is_ceiling(row: CompareRow) -> bool:
    """Whether the row is the autoencoder without codes."""
    return row.quantizer.get("method") == CEILING


def verb_config(config: CompareConfig, verb: str, settings: Sequence[str]) -> dict[str, Any]:
    """The experiment's file of a verb, with the study's settings and a row's."""
    path = config.experiment / f"{verb}.yaml"
    if not path.is_file():
        raise ValueError(f"experiment={config.experiment} has no {verb}.yaml: set experiment")
    both = (*config.settings, *settings)
    mine = [s.removeprefix(f"{verb}.") for s in both if s.startswith(f"{verb}.")]
    merged = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(mine))
    found: Any = OmegaConf.to_container(merged, resolve=True)
    return found


def write(values: dict[str, Any], path: Path) -> None:
    """A config file; one that says the same is left alone."""
    text = OmegaConf.to_yaml(OmegaConf.create(values))
    if not (path.is_file() and path.read_text() == text):
        write_text(path, text)


def execute(config: CompareConfig, folder: Path) -> str | None:
    """Runs a row to its end; the row's name if it fails."""
    return None if run_verbs(config, folder / "configs", folder / "log.txt") else folder.name


def run_verbs(config: CompareConfig, configs: Path, log: Path) -> bool:
    """`simvq run` in a process of its own, whose output is the log: its memory is a row's alone."""
    threads = max(torch.get_num_threads() // config.at_once, 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        return not subprocess.run(
            [sys.executable, "-m", "pipelines", "run", str(configs)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        ).returncode
