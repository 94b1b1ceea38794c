"""What compare runs: verbs with configs of their own, each folder of them in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from common.config import write_text
from pipelines.compare.config import CompareConfig, CompareRow


def row_name(row: CompareRow) -> str:
    """What a row is called in paths."""
    name = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")
    dim = "" if row.code_dim is None else f"-d{row.code_dim}"
    return f"{name}-k{row.codebook_size}{dim}"


def verb_config(config: CompareConfig, verb: str, settings: Sequence[str]) -> dict[str, Any]:
    """The experiment's file of a verb, with the study's settings and a row's."""
    path = config.experiment / f"{verb}.yaml"
    if not path.is_file():
        raise ValueError(f"experiment={config.experiment} has no {verb}.yaml: set experiment")
    both = (*config.settings, *settings)
    mine = [s.removeprefix(f"{verb}.") for s in both if s.startswith(f"{verb}.")]
    merged = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(mine))
    found: Any = OmegaConf.to_container(merged, resolve=True)
    if verb in ("train-tokenizer", "train-prior"):
        found["allow_failed"] = True  # a collapse is a result of a study
    return found


def write(values: dict[str, Any], path: Path) -> None:
    """A config file; one that says the same is left alone."""
    text = OmegaConf.to_yaml(OmegaConf.create(values))
    if not (path.is_file() and path.read_text() == text):
        write_text(path, text)


def run_all(config: CompareConfig, folders: Sequence[Path]) -> Iterator[bool]:
    """Runs the folders' configs, `at_once` folders at a time; whether each, in order, came to its end."""
    with ThreadPoolExecutor(config.at_once) as pool:
        yield from pool.map(
            lambda one: run_verbs(config, one / "configs", one / "log.txt"), folders
        )


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
