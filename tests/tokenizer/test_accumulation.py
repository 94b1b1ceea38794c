"""Parts of a batch one after another make the step that the batch makes at once."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.image_runs import MODEL, few_digits, tokenizer_config
from safetensors.torch import load_file

from common.tracking import read_metrics
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.quantizers import CVQConfig, EMAConfig, HQAConfig, RQConfig, SimVQConfig
from stage1_tokenizer.train import train_tokenizer

QUANTIZERS = (
    SimVQConfig(codebook_size=32, code_dim=4),
    EMAConfig(codebook_size=32, code_dim=4, reset="state"),
    CVQConfig(codebook_size=32, code_dim=4),
    RQConfig(codebook_size=32, code_dim=4),
    HQAConfig(codebook_size=32, code_dim=4),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageDataConfig:
    return few_digits(tmp_path_factory.mktemp("digits"), train=320, validation=16)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda quantizer: quantizer.method)
def test_2_x_32_is_1_x_64_for_a_tokenizer(
    quantizer: Any, data: ImageDataConfig, tmp_path: Path
) -> None:
    """Weights, averaged codebooks and their statistics, and the log, after four steps."""
    config = tokenizer_config(
        tmp_path / "whole",
        data=data,
        model=dataclasses.replace(MODEL, quantizer=quantizer),
        loss=ImageLossConfig(perceptual_weight=0, adversarial_weight=0),
        batch_size=64,
        steps=4,
        precision="fp32",
    )
    train_tokenizer(config)
    parts = dataclasses.replace(config, run_dir=tmp_path / "parts", accumulation=2)
    train_tokenizer(parts)
    whole, cut = (
        load_file(folder / "checkpoints/step-00000004/state.safetensors")
        for folder in (config.run_dir, parts.run_dir)
    )
    names = [name for name in whole if name.startswith("model/")]
    assert any("quantizer" in name for name in names)
    for name in names:
        torch.testing.assert_close(cut[name].double(), whole[name].double(), atol=2e-4, rtol=1e-2)
    for a, b in zip(read_metrics(config.run_dir), read_metrics(parts.run_dir), strict=True):
        for key in ("loss/l1", "loss/total", "heldout/psnr", "optim/grad_norm"):
            assert b[key] == pytest.approx(a[key], rel=1e-3), (key, a["step"])
        assert a["codebook/positions"] == b["codebook/positions"]


def test_a_discriminator_learns_from_all_parts(data: ImageDataConfig, tmp_path: Path) -> None:
    """Its batch normalisation sees a part at a time, so that it is near, not the same."""
    config = tokenizer_config(tmp_path / "whole", data=data, batch_size=64, steps=6)
    train_tokenizer(config)
    train_tokenizer(dataclasses.replace(config, run_dir=tmp_path / "parts", accumulation=4))
    whole, cut = (read_metrics(tmp_path / name)[-1] for name in ("whole", "parts"))
    assert cut["loss/discriminator"] == pytest.approx(whole["loss/discriminator"], rel=0.1)
    assert cut["loss/adversarial"] != 0
