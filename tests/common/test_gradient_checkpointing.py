"""Computing again instead of keeping: the same bits in less memory."""

import dataclasses
from pathlib import Path

import pytest
from helpers.finetuning import make_source, prior_config
from helpers.image_runs import few_digits, tokenizer_config
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
from common.gradient_checkpointing import recompute
from stage1_tokenizer.train import train_tokenizer
from stage2_prior.train import train_prior


def test_runs_with_and_without_come_to_the_same_bits(tmp_path: Path) -> None:
    data = few_digits(tmp_path, train=120, validation=30)
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
