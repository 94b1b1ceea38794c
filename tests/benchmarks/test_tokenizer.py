"""Ours and the plain ways of the tokenizer's benchmarks do the same: equal losses, equal codes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import encode, tokenizer_step
from benchmarks.side_by_side import Timing, weighed
from common.codes import read_codes
from common.config import load_config
from common.training import OptimConfig
from stage1_tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.images.encode import CACHED, encoded
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.images.training import TrainImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig

ADVERSARIAL = ImageLossConfig(perceptual_weight=0, discriminator_width=8, discriminator_layers=1)


def tiny() -> TrainImageTokenizerConfig:
    """The paper's setting, small."""
    model = ImageTokenizerConfig(
        image_size=8,
        width=32,
        multipliers=(1, 1),
        blocks_per_level=1,
        quantizer=SimVQConfig(codebook_size=32, code_dim=4),
    )
    optim = OptimConfig(lr=1e-3, warmup_steps=2)
    return replace(tokenizer_step.paper(4), model=model, loss=ADVERSARIAL, optim=optim)


@pytest.mark.parametrize("adversarial", [True, False])
def test_a_step_has_the_losses_of_the_papers_recipe(adversarial: bool) -> None:
    config = tiny()
    if not adversarial:
        config = replace(config, loss=replace(ADVERSARIAL, adversarial_weight=0))
    ours = tokenizer_step.our_way(config, "fp32", 4)()
    plain = tokenizer_step.plain_way(config, "fp32", 4)()
    for mine, theirs in zip(ours, plain, strict=True):
        losses = {name: loss.item() for name, loss in mine.items()}
        both = losses.pop("codebook") + losses.pop("commitment")
        assert losses | {"quantizer": both} == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert ours[0]["l1"] > ours[-1]["l1"]


def test_a_step_is_timed_and_weighed_in_all_ways() -> None:
    seconds = tokenizer_step.seconds(tiny(), steps=1, rounds=1)
    fact = {"batch": 4, "seconds": seconds, "gib": dict.fromkeys(seconds, 0.0)}
    assert len(tokenizer_step.row("tiny", fact)) == len(tokenizer_step.HEADER)
    assert 0 <= weighed(tokenizer_step.plain_way, tiny(), "fp32", 1) < 1
    assert load_config(tokenizer_step.Sizes, None, ["rounds=3"]).rounds == 3
    assert tokenizer_step.cifar10_cpu(8).model.width == 32


def test_encode_writes_the_codes_of_the_plain_loop(tmp_path: Path) -> None:
    sizes = encode.Sizes(train=11, validation=3, batch_size=4)
    encode.write_data(sizes, tiny().model, tmp_path)
    plain = encode.plain_way(tmp_path, 5)()
    out = encode.our_way(tmp_path, sizes.batch_size)()
    for split, codes in plain.items():
        ours = read_codes(out, split).with_format("numpy")["codes"]
        assert np.array_equal(np.stack(list(ours)), codes)
    assert len(np.unique(plain["train"])) > 5
    encode.alone(tmp_path, sizes)()


def test_parts_have_the_codes_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(replace(tiny().model, image_size=64)).eval()
    images = torch.rand(20, 3, 64, 64) * 2 - 1
    assert 32 * images.numel() // 3 > 2 * CACHED
    assert torch.equal(encoded(tokenizer, images), tokenizer.encode(images))
    assert encoded(tokenizer, images[:1]).shape == (1, 32, 32)


def test_the_table_of_encoding_has_a_line_for_each_way() -> None:
    timing = Timing(median=2.0, least=1.0, most=3.0)
    seconds = dict.fromkeys(("plain", "ours", "alone"), timing)
    lines = encode.rows({"images": 10, "seconds": seconds, "gib": {"ours": 1.0}})
    assert [line[1:3] for line in lines] == [["5", "1.00x"]] * 3
