"""new: a recipe that fits a data set and the minutes given, every choice explained in a comment."""

import contextlib
import math
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from string import Template
from typing import Any

import torch

import stage1_tokenizer.train
from common.files import write_text
from common.processes import processes
from pipelines.data_facts import ImageFacts, SpeechFacts, look
from pipelines.experiment import read_experiment
from pipelines.recipes import recipe

SHARES = {"tokenizer": 0.6, "prior": 0.25}
"""Of the minutes; the rest is for the classifier, encoding, sampling and scoring."""
EPOCHS = 40
"""No training is longer than so many times the data set, unless that is less than 100 steps."""
MEASURED = 3
"""Steps that are timed, after one that is not."""
PRIOR_WEIGHTS, PRIOR_BATCH = 1e6, 64
"""The size of a prior and its batch, by which its time is estimated."""


def new(data: str, options: Sequence[str]) -> str:
    """The recipe, as YAML. Raises ValueError for data that can't be read and for another option than minutes."""
    minutes = 30.0
    for option in options:
        found = re.fullmatch(r"minutes=(\d+(?:\.\d+)?)", option)
        if not found or not float(found[1]):
            raise ValueError(f"{option!r} is no option: give minutes=30, or another number")
        minutes = float(found[1])
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the recipe alone
        facts = look(data)
        return with_steps(recipe(facts, minutes), facts, minutes)


def with_steps(text: str, facts: ImageFacts | SpeechFacts, minutes: float) -> str:
    """The recipe with as many steps as the minutes allow; those of the tokenizer are timed on its data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        write_text(path, filled(text, 100, 100, 100, ""))
        config = read_experiment(path, [f"run_dir={folder}"]).config("tokenizer")
        seconds = step_seconds(config)
    length = codes_per_item(config, facts)
    tokenizer = steps_in(
        60 * minutes * SHARES["tokenizer"], seconds, facts.count, config.batch_size
    )
    operations = (
        6 * PRIOR_WEIGHTS * PRIOR_BATCH * length
    )  # forwards 2 per weight and code, backwards 4
    prior_seconds = operations / operations_per_second()
    prior = steps_in(60 * minutes * SHARES["prior"], prior_seconds, facts.count, PRIOR_BATCH)
    note = f"{1000 * seconds:.0f} ms each, as timed here: {seconds * tokenizer / 60:.1f} of {minutes:g} minutes"
    return filled(text, tokenizer, prior, min(max(int(20 * minutes), 20), 500), note)


def filled(text: str, tokenizer: int, prior: int, classifier: int, note: str) -> str:
    """The recipe's text with its steps."""
    return (
        Template(text)
        .substitute(
            tokenizer_steps=tokenizer,
            tokenizer_save=max(tokenizer // 4, 1),
            tokenizer_warmup=min(50, max(tokenizer // 10, 1)),
            prior_steps=prior,
            prior_save=max(prior // 4, 1),
            prior_warmup=min(50, max(prior // 10, 1)),
            classifier_steps=classifier,
            note=note,
        )
        .replace("  subset: null\n", "")
    )


def step_seconds(config: Any) -> float:
    """Seconds of one step of a tokenizer's training."""
    run, _, batches = stage1_tokenizer.train.begin(config)
    stage1_tokenizer.train.take_step(run, batches, 0)
    start = time.perf_counter()
    for step in range(1, 1 + MEASURED):
        stage1_tokenizer.train.take_step(run, batches, step)
    return (time.perf_counter() - start) / MEASURED


def steps_in(seconds: float, step: float, items: int, batch_size: int) -> int:
    """Steps that fit, rounded down to two digits: at least 20, and no more epochs than are of use."""
    steps = int(min(max(seconds / step, 20), max(EPOCHS * items / batch_size, 100)))
    place = 10 ** max(len(str(steps)) - 2, 0)
    return steps // place * place


def operations_per_second() -> float:
    """What a training gets of this machine, about: a quarter of what a product of matrices does."""
    matrix = torch.ones(1024, 1024, device=processes().device)
    start = time.perf_counter()
    float((matrix @ matrix).sum())
    return 0.25 * 2 * len(matrix) ** 3 / (time.perf_counter() - start)


def codes_per_item(config: Any, facts: ImageFacts | SpeechFacts) -> float:
    """Positions of one item, on average."""
    if isinstance(facts, SpeechFacts):
        return config.model.codes_per_second * fmean(facts.seconds)
    return math.prod(config.model.grid)
