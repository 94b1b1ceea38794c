"""The row without a quantizer: it trains and is evaluated like the others, and has no codes to encode."""

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers import image_runs
from helpers.speech_runs import MODEL

from common.tracking import read_metrics
from pipelines import verbs
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.quantizers import Continuous, ContinuousConfig


def test_latents_pass_unchanged() -> None:
    quantizer = Continuous(code_dim=5)
    latents = torch.randn(2, 7, 5, requires_grad=True)
    out = quantizer(latents)
    assert torch.equal(out.latents, latents) and out.losses == {} and out.loss.item() == 0
    assert not out.codes.any() and not quantizer.spec.has_codes
    for call in (quantizer.encode, quantizer.lookup):
        with pytest.raises(ValueError, match=r"another model\.quantizer\.method"):
            call(latents if call == quantizer.encode else out.codes)


def test_a_tokenizer_without_codes_trains_and_refuses_to_encode(tmp_path: Path) -> None:
    config = image_runs.tokenizer_config(
        tmp_path / "run",
        model=dataclasses.replace(image_runs.MODEL, quantizer=ContinuousConfig(code_dim=4)),
        steps=4,
    )
    text = verbs.train_tokenizer(config)
    assert "PSNR (dB)" in text and "; there are no codes" in text
    assert read_metrics(config.run_dir)[-1]["heldout/psnr"] > 0
    assert list((config.run_dir / "examples").glob("*.png"))
    tokenizer = ImageTokenizer.from_pretrained(config.run_dir / "model").eval()
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    assert torch.equal(tokenizer.reconstruct(images), tokenizer(images)[0])
    request = EncodeImagesConfig(tokenizer=config.run_dir / "model", out=tmp_path / "codes")
    with pytest.raises(ValueError, match=r"method=continuous has no codes"):
        encode(request)


def test_speech_is_reconstructed_without_codes() -> None:
    unquantized = dataclasses.replace(MODEL, quantizer=ContinuousConfig(code_dim=6))
    tokenizer = SpeechTokenizer(unquantized).eval()
    waveform, lengths = torch.randn(2, 100), torch.tensor([100, 53])
    rebuilt = tokenizer.reconstruct(waveform, lengths)
    assert rebuilt.shape == waveform.shape and not rebuilt[1, 53:].any()
