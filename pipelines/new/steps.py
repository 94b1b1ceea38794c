"""How many steps fit into the minutes given: each training's are timed on this machine."""

import math
import tempfile
import time
from pathlib import Path
from statistics import fmean
from string import Template
from typing import Any

import torch

import stage1_tokenizer.train
from common.files import write_text
from common.processes import processes
from pipelines.experiment import read_experiment
from pipelines.new.facts import ImageFacts, SpeechFacts
from stage2_prior import Prior, PriorConfig
from stage2_prior.optimizers import new_optimizers
from stage2_prior.train_config import TrainPriorConfig

SHARES = {"tokenizer": 0.6, "prior": 0.25}
"""Of the minutes; the rest is for the classifier, encoding, sampling and scoring."""
EPOCHS = 40
"""Most epochs of a training, but 100 steps are always allowed."""
MEASURED = 3
"""Steps that are timed, after one that is not."""
PART = 8
"""Items of a step of the prior that is timed."""


def with_steps(text: str, facts: ImageFacts | SpeechFacts, minutes: float) -> str:
    """The recipe with as many steps as the minutes allow; those of the tokenizer are timed on its data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        write_text(path, filled(text, 100, 100, 100, ""))
        experiment = read_experiment(path, [f"run_dir={folder}"])
        config, of_prior = experiment.config("tokenizer"), experiment.config("prior")
        seconds = step_seconds(config)
    tokenizer = steps_in(
        60 * minutes * SHARES["tokenizer"], seconds, facts.count, config.batch_size
    )
    architecture = PriorConfig(
        codebook_size=config.model.quantizer.codebook_size,
        code_dim=config.model.quantizer.code_dim,
        length=round(codes_per_item(config, facts)),
        size=of_prior.size,
        condition="none",
    )
    prior = steps_in(
        60 * minutes * SHARES["prior"],
        prior_seconds(architecture, of_prior),
        facts.count,
        of_prior.batch_size,
    )
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
    run.guard.check()  # waits for the device
    start = time.perf_counter()
    for step in range(1, 1 + MEASURED):
        stage1_tokenizer.train.take_step(run, batches, step)
    run.guard.check()
    return (time.perf_counter() - start) / MEASURED


def steps_in(seconds: float, step: float, items: int, batch_size: int) -> int:
    """Steps that fit, rounded down to two digits: at least 20, and no more epochs than are of use."""
    steps = int(min(max(seconds / step, 20), max(EPOCHS * items / batch_size, 100)))
    place = 10 ** max(len(str(steps)) - 2, 0)
    return steps // place * place


def prior_seconds(architecture: PriorConfig, config: TrainPriorConfig) -> float:
    """Seconds of one step of a prior's training: of a part of the batch, made up to the whole, and of the optimizers."""
    prior = Prior(architecture).to(processes().device)
    optimizers = new_optimizers(prior, config.optimizer, config.optim)
    conditions = prior.conditions(PART).to(processes().device)
    codes = torch.zeros(PART, architecture.length, dtype=torch.int64, device=conditions.device)
    seconds = 0.0
    for _ in range(2):  # the first is not counted
        start = time.perf_counter()
        loss = prior(conditions, codes)
        loss.backward()
        float(loss.detach())
        middle = time.perf_counter()
        for optimizer in optimizers:
            optimizer.step()
        float(next(prior.parameters()).detach().sum())
        parts = config.batch_size / PART
        seconds = parts * (middle - start) + time.perf_counter() - middle
    return seconds


def codes_per_item(config: Any, facts: ImageFacts | SpeechFacts) -> float:
    """Positions of one item, on average."""
    if isinstance(facts, SpeechFacts):
        return config.model.codes_per_second * fmean(facts.seconds)
    return math.prod(config.model.grid)
