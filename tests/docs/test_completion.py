"""The claim of docs/completion.md on a small prior: what is known helps, and both beat codes that know neither it nor the label."""

import contextlib
from pathlib import Path

import completion
import pytest
import torch
from helpers.pages import DOCS

from pipelines import ImageGenerationPipeline
from pipelines.cli import main
from pipelines.experiment import read_experiment

STEPS = [
    "tokenizer.steps=150",
    "tokenizer.save_every=150",
    "prior.steps=250",
    "prior.save_every=250",
]


@pytest.mark.slow
def test_a_part_that_is_filled_in_is_nearer_than_a_random_one(tmp_path: Path) -> None:
    """Paired over 200 test digits: each mean difference is more than three of its standard errors."""
    config = str(DOCS.parent / "configs/digits.yaml")
    with contextlib.chdir(tmp_path):
        for verb in ("train-tokenizer", "encode", "train-prior"):
            main([verb, config, *STEPS, "prior.order=random", "allow_failed=true"])
        pipe = ImageGenerationPipeline.from_pretrained("runs/digits/prior/pipeline")
        train = completion.training_codes(Path("runs/digits/codes"), (4, 4))
    images, labels = completion.first_images(read_experiment(Path(config)), completion.ITEMS)
    codes = pipe.tokenizer.encode(images)
    for name in ("upper half", "lower half", "left half"):
        mask = completion.masks_of(4, 4)[name]
        filled = completion.fillings(pipe, codes, labels, mask, train)
        assert all(torch.equal(one[:, mask], codes[:, mask]) for one in filled.values())
        wrong = [completion.errors(pipe, images, one, mask) for one in filled.values()]
        for other in wrong[2:4]:  # each position's codes in training, and random ones
            gain = other - wrong[0]
            assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5, name
