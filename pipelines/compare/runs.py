"""What compare runs: an experiment for each row, in a folder and a process of its own."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from common.config import read_values
from common.files import write_text
from common.parent import CHILD
from pipelines.compare.config import CompareConfig, CompareRow
from pipelines.experiment import SECTIONS
from pipelines.recipe_list import config_path

EXPERIMENT = "experiment.yaml"
"""The file of a row, in its folder."""
NEEDED = ("tokenizer", "codes", "prior", "samples", "score")
"""The sections that an experiment must have for a study."""


def folder_name(row: CompareRow) -> str:
    """What the folders of a row are called."""
    name = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")
    name = name or hashlib.sha256(row.name.encode()).hexdigest()[:8]  # of another script than Latin
    dim = "" if row.code_dim is None else f"-d{row.code_dim}"
    return f"{name}-k{row.codebook_size}{dim}"


def experiment_values(config: CompareConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment's file, with the study's settings and a row's over it."""
    path = config_path(str(config.experiment))
    if not path.is_file():
        raise ValueError(
            f"experiment={config.experiment} is neither a file nor the name of a recipe: set experiment"
        )
    own = {key: {} if value is None else value for key, value in read_values(path).items()}
    merged = OmegaConf.merge(OmegaConf.create(own), config.settings, settings)
    values: Any = OmegaConf.to_container(merged, resolve=True)
    for section in NEEDED:
        if section not in values:
            raise ValueError(
                f"experiment={config.experiment} has no section {section}: set experiment"
            )
    if values.get("classifier", {}) is None:
        del values["classifier"]
    for section in {*SECTIONS} & values.keys():
        if not isinstance(values[section], dict):
            raise ValueError(
                f"settings.{section}={values[section]} must be a group of keys: set settings"
            )
        for key in ("run_dir", "out"):  # all runs are in the study's folder
            values[section].pop(key, None)
    if values["score"].get("classifier"):
        values.pop("classifier", None)  # one that was trained elsewhere
        values["samples"].setdefault("classifier", values["score"]["classifier"])
    values["allow_failed"] = True  # a collapse is a result of a study
    return values


def write_experiment(values: dict[str, Any], path: Path) -> None:
    """An experiment's file; one that says the same is left alone."""
    text = OmegaConf.to_yaml(OmegaConf.create(values))
    if not (path.is_file() and path.read_text() == text):
        write_text(path, text)


def run_all(config: CompareConfig, folders: Sequence[Path]) -> Iterator[bool]:
    """Runs the folders' experiments, `at_once` at a time; whether each, in order, came to its end."""
    with ThreadPoolExecutor(config.at_once) as pool:
        yield from pool.map(
            lambda one: run_experiment(config, one / EXPERIMENT, one / "log.txt"), folders
        )


def run_experiment(config: CompareConfig, experiment: Path, log: Path) -> bool:
    """Whether `simvq run` succeeded, in its own process, so that peak memory is one row's; `log` gets its output."""
    threads = max(torch.get_num_threads() // config.at_once, 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        return not subprocess.run(
            [sys.executable, "-m", "pipelines", "run", str(experiment)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), CHILD: "1"},
        ).returncode
