"""Ours and the plain ways of the tokenizer's benchmarks do the same: equal losses, equal codes."""

from dataclasses import replace

import pytest

from benchmarks import tokenizer_step
from benchmarks.side_by_side import weighed
from common.training import OptimConfig
from stage1_tokenizer import ImageTokenizerConfig
from stage1_tokenizer.image_losses import ImageLossConfig
from stage1_tokenizer.quantizers import SimVQConfig
from stage1_tokenizer.train_config import TrainTokenizerConfig

ADVERSARIAL = ImageLossConfig(perceptual_weight=0, discriminator_width=8, discriminator_layers=1)


def tiny() -> TrainTokenizerConfig:
    """The paper's setting, small."""
    model = ImageTokenizerConfig(
        image_size=8,
        width=32,
        multipliers=(1, 1),
        blocks_per_level=1,
        quantizer=SimVQConfig(codebook_size=32, code_dim=4),
    )
    optim = OptimConfig(lr=1e-3, warmup_steps=2)
    return replace(tokenizer_step.paper(), model=model, loss=ADVERSARIAL, optim=optim, batch_size=4)


@pytest.mark.parametrize("adversarial", [True, False])
def test_a_step_has_the_losses_of_the_papers_recipe(adversarial: bool) -> None:
    config = tiny()
    if not adversarial:
        config = replace(config, loss=replace(ADVERSARIAL, adversarial_weight=0))
    ours = tokenizer_step.our_way(config, "fp32", 4)()
    plain = tokenizer_step.plain_way(config, "fp32", 4)()
    for mine, theirs in zip(ours, plain, strict=True):
        losses = {name: loss.item() for name, loss in mine.items()}
        pulls = losses.pop("codebook") + losses.pop("commitment")
        assert losses | {"quantizer": pulls} == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert float(ours[0]["l1"]) > float(ours[-1]["l1"])


def test_a_step_is_timed_and_weighed_in_all_ways() -> None:
    seconds = tokenizer_step.seconds(tiny(), steps=1, rounds=1)
    fact = {"batch": 4, "seconds": seconds, "gib": dict.fromkeys(seconds, 0.0)}
    assert len(tokenizer_step.row("tiny", fact)) == len(tokenizer_step.HEADER)
    assert 0 <= weighed(tokenizer_step.plain_way, tiny(), "fp32", 1) < 1
    assert tokenizer_step.Sizes().cifar10_cpu.model.width == 32
