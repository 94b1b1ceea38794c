"""Priors as earlier versions saved them load, and sample the same codes from the same seeds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from helpers.saved import write_weights

from stage2_prior import DepthPrior, PriorConfig
from stage2_prior.build import lengths, load_prior, prior_class
from stage2_prior.sampling import sample_codes, trimmed
from stage2_prior.sampling_options import SamplingOptions
from stage2_prior.train_config import TrainPriorConfig

FOLDERS: dict[str, Any] = {
    "run_dir": Path("run"),
    "codes": Path("codes"),
    "tokenizer": Path("model"),
}
SAVED = sorted((Path(__file__).parent / "saved").glob("*.json"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_saved_prior_samples_the_same_codes(path: Path, tmp_path: Path) -> None:
    saved = json.loads(path.read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved["config"]))
    write_weights(tmp_path, saved["weights"])
    prior = load_prior(tmp_path)
    assert isinstance(prior, DepthPrior) == ("depth" in path.stem)
    for sample in saved["samples"]:
        conditions = prior.conditions(len(sample["seeds"]), **sample.get("conditions", {}))
        options = SamplingOptions(**sample.get("options", {}))
        prompts = [torch.tensor(prompt) for prompt in sample.get("prompts", [])] or None
        codes = sample_codes(prior, conditions, sample["seeds"], options, prompts)
        assert [one.tolist() for one in trimmed(codes)] == sample["codes"], sample
    prior.save_pretrained(tmp_path / "again")
    again = load_prior(tmp_path / "again")
    assert again.config == prior.config and type(again) is type(prior)
    weights = again.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in prior.state_dict().items())


def test_places_are_for_the_longest_item_of_any_split() -> None:
    """By embeddings of places a longer one would be told apart wrongly, or not at all."""
    items = {
        split: Dataset.from_dict({"codes": [[0] * size, [0]]})
        for split, size in (("train", 6), ("validation", 5), ("test", 12))
    }
    of_all = lengths(TrainPriorConfig(**FOLDERS), {}, items, 1)
    assert of_all == {"length": 6, "min_codes": 1, "max_codes": 12}
    del items["test"]
    assert lengths(TrainPriorConfig(**FOLDERS), {}, items, 1)["max_codes"] == 9
    few = TrainPriorConfig(**FOLDERS, max_codes=4)
    assert lengths(few, {}, items, 1)["max_codes"] == 4  # Llama's places have no end
    with pytest.raises(ValueError, match="a train item of codes has 6 codes"):
        lengths(replace(few, style="gpt2"), {}, items, 1)


def test_levels_by_depth_have_a_class_of_their_own() -> None:
    config = PriorConfig(codebook_size=4, code_dim=2, length=4, sizes=(4, 4), levels_by="depth")
    assert prior_class(config) is DepthPrior
