"""A tokenizer's training through torch.compile: the same run, which goes on without it."""

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.compiled import cut_and_resumed
from helpers.image_runs import tokenizer_config
from helpers.runs import assert_same_run
from helpers.speech_runs import run_config, words

import stage1_tokenizer.train
from common.training import compiled


@pytest.mark.parametrize("kind", ["images", pytest.param("speech", marks=pytest.mark.slow)])
def test_a_tokenizer_s_run_begins_compiled_and_ends_without(kind: str, tmp_path: Path) -> None:
    """With a discriminator, and speech of unequal lengths."""
    if kind == "images":
        whole, cut = (tokenizer_config(tmp_path / name) for name in ("whole", "cut"))
    else:
        data = words(tmp_path / "words")
        runs = (run_config(tmp_path / name, data) for name in ("whole", "cut"))
        whole, cut = (dataclasses.replace(run, steps=8) for run in runs)
    stage1_tokenizer.train.train_tokenizer(whole)
    cut_and_resumed(stage1_tokenizer.train, stage1_tokenizer.train.train_tokenizer, cut, first=True)
    assert_same_run(cut.run_dir, whole.run_dir, "model/model.safetensors")


def test_the_network_itself_stays_as_it_is() -> None:
    """Its forward is not compiled, and its weights keep their names."""
    network = torch.nn.Linear(2, 3)
    through = compiled(network)
    assert through is not network and next(through.parameters()) is network.weight
    assert network._compiled_call_impl is None and list(network.state_dict()) == ["weight", "bias"]
