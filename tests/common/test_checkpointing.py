"""Computing again instead of keeping: the same bits in less memory."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.finetuning import make_source, prior_config
from helpers.image_runs import few_digits, tokenizer_config
from helpers.processes import ROOT
from helpers.runs import assert_same_run

from benchmarks.sizes import one_step
from benchmarks.traces import (
    TracedTraining,
    new_codes,
    new_items,
    new_prior,
    new_tokenizer,
    on_meta,
    recipes,
)
from common.checkpointing import recompute
from common.tracking import read_metrics
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.train import train_tokenizer
from stage2_prior.train import train_prior


def test_runs_with_and_without_come_to_the_same_bits(tmp_path: Path) -> None:
    data = ImageDataConfig(source="parquet", **few_digits(tmp_path, train=120, validation=30))
    source = make_source(tmp_path, data)
    again = tokenizer_config(tmp_path / "again", data=data, checkpointing=True)
    train_tokenizer(again)
    assert_same_run(again.run_dir, source / "tokenizer", "model/model.safetensors")
    prior = prior_config(source, tmp_path / "prior", dropout=0.2, steps=4)
    train_prior(prior)
    train_prior(dataclasses.replace(prior, run_dir=tmp_path / "prior again", checkpointing=True))
    assert_same_run(tmp_path / "prior again", tmp_path / "prior", "best/model.safetensors")


def held(name: str, checkpointing: bool) -> tuple[int, int]:
    """Bytes that a step of a recipe's tokenizer and one of its prior keep for their backward."""
    recipe = recipes()[name]
    config = recipe.config("tokenizer")
    with on_meta():
        training, tokenizer = TracedTraining(config, "meta"), new_tokenizer(config, "meta")
        prior = new_prior(recipe, "meta")
        items, batch = new_items(config, 8, "meta"), new_codes(prior, 8, "meta")
        for network in (tokenizer.encoder, tokenizer.decoder, prior) if checkpointing else ():
            recompute(network)
        of_tokenizer, _ = one_step(lambda: training.losses(tokenizer, items).values())
        return of_tokenizer, one_step(lambda: [prior(*batch)])[0]


@pytest.mark.parametrize("name", ["cifar10_cpu", "spoken_digits"])
def test_a_step_holds_less(name: str) -> None:
    kept, again = held(name, False), held(name, True)
    assert again[0] < 0.7 * kept[0] and again[1] < 0.4 * kept[1]


@pytest.mark.slow
def test_compiled_steps_are_the_same_but_for_rounding(tmp_path: Path) -> None:
    """In processes without the tests' type checks, which a graph can't hold."""
    words = [str(ROOT / "configs/smoke.yaml"), "tokenizer.steps=4", "prior.steps=4"]
    words += ["tokenizer.log_every=1", "prior.log_every=1", "prior.dropout=0"]
    runs = {
        "plain": ["tokenizer.compile=false"],
        "compiled": ["tokenizer.compile=true", "prior.compile=true"],
    }
    for name, changes in runs.items():
        for verb in ("train-tokenizer", "encode", "train-prior"):
            command = [sys.executable, "-m", "pipelines", verb, *words, *changes]
            command.append(f"run_dir={tmp_path / name}")
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=600)
    for section, key in (("tokenizer", "loss/total"), ("prior", "loss/train")):
        plain, compiled = (read_metrics(tmp_path / name / section) for name in runs)
        for a, b in zip(plain, compiled, strict=True):
            assert a.get(key, 0) == pytest.approx(b.get(key, 0), rel=1e-3), (section, a["step"])
