"""What people hold becomes what a tokenizer takes, or a sentence; codes are the same under mixed precision."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor

from pipelines import ImageGenerationPipeline
from stage1_tokenizer import (
    ImageTokenizer,
    ImageTokenizerConfig,
    SpeechTokenizer,
    SpeechTokenizerConfig,
)
from stage1_tokenizer.images.data import view
from stage1_tokenizer.quantizers import SimVQConfig, check_form

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
EXACT = torch.from_numpy(PIXELS).movedim(-1, 0)[None].float() / 127.5 - 1
RATE = 8000
CLIP = (0.3 * np.random.default_rng(1).standard_normal(1600)).clip(-1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def images() -> ImageTokenizer:
    torch.manual_seed(0)
    quantizer = SimVQConfig(codebook_size=40, code_dim=6)
    shape: dict[str, Any] = {"width": 32, "multipliers": (1, 1), "blocks_per_level": 1}
    config = ImageTokenizerConfig(image_size=16, quantizer=quantizer, **shape)
    tokenizer = ImageTokenizer(config).eval()
    tokenizer.quantizer.init_from(tokenizer.latents(EXACT).detach().movedim(1, -1))
    return tokenizer


@pytest.fixture(scope="module")
def speech() -> SpeechTokenizer:
    torch.manual_seed(0)
    quantizer = SimVQConfig(codebook_size=64, code_dim=16)
    shape: dict[str, Any] = {"width": 4, "lstm_layers": 1, "decoder_layers": 1, "n_fft": 160}
    shape |= {"decoder_width": 64, "decoder_hidden": 96, "decoder_window": 16}
    config = SpeechTokenizerConfig(sample_rate=RATE, ratios=(5, 4, 2), quantizer=quantizer, **shape)
    tokenizer = SpeechTokenizer(config).eval()
    tokenizer.quantizer.init_from(tokenizer.latents(torch.from_numpy(CLIP)[None]).detach().mT)
    return tokenizer


@pytest.mark.parametrize(
    "given",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS[None],
        np.flip(np.flip(PIXELS, 0).copy(), 0),
        torch.from_numpy(PIXELS).movedim(-1, 0),
        EXACT,
        EXACT[0].double(),
        EXACT[0].movedim(0, -1).numpy(),
        [Image.fromarray(PIXELS)],
    ],
    ids=["pil", "bytes", "batch", "flipped", "tensor", "as-is", "double", "floats", "list"],
)
def test_an_image_has_the_same_codes_however_it_is_held(
    images: ImageTokenizer, given: object
) -> None:
    assert torch.equal(images.preprocess(given), EXACT)
    assert torch.equal(images.encode(given), images.encode(EXACT))


def test_layout_and_range_are_said(images: ImageTokenizer) -> None:
    last = torch.from_numpy(PIXELS)
    assert torch.equal(images.preprocess(last, channels_first=False), EXACT)
    unit = PIXELS.transpose(2, 0, 1).astype(np.float64) / 255
    ready = images.preprocess(unit, channels_first=True, value_range=(0, 1))
    torch.testing.assert_close(ready, EXACT, atol=1e-6, rtol=0)


def test_a_file_is_seen_as_in_training(images: ImageTokenizer, tmp_path: Path) -> None:
    wide = Image.fromarray(np.random.default_rng(2).integers(0, 256, (20, 50, 3), dtype=np.uint8))
    wide.save(tmp_path / "wide.png")
    for given in (tmp_path / "wide.png", str(tmp_path / "wide.png"), wide, wide.convert("RGBA")):
        assert torch.equal(images.preprocess(given)[0], view(wide, 16, "centre"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (PIXELS[..., 0], "images of shape (16, 16) must have the shape (b, y, x, c)"),
        (PIXELS.transpose(2, 0, 1), "say channels_first=True"),
        (torch.from_numpy(PIXELS), "say channels_first=False"),
        (PIXELS.astype(np.int64), "images of type torch.int64: give bytes (uint8), or floats"),
        (PIXELS / 255 * 2, "must lie in value_range=(-1, 1): set value_range, to (0, 1)"),
        (np.full((16, 16, 3), np.nan), "images from nan to nan must lie in"),
        (PIXELS[None][:0], "images of shape (0, 16, 16, 3) hold no pixels: give at least one"),
        (EXACT[:0], "images of shape (0, 3, 16, 16) hold no pixels: give at least one"),
        ([PIXELS, PIXELS[:8]], "are no batch: give one size alone"),
        ([], "there are no images"),
        (3, "int is no image: give a PIL image"),
    ],
)
def test_what_is_no_image_is_one_sentence(
    images: ImageTokenizer, given: object, words: str
) -> None:
    with pytest.raises(ValueError) as caught:
        images.preprocess(given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([[0]], "codes must be a tensor of integers (b, h, w), and are list"),
        (torch.zeros(1, 16).long(), "(b, h, w), and are int64 of shape (1, 16)"),
        (torch.zeros(1, 4, 4), "(b, h, w), and are float32 of shape (1, 4, 4)"),
    ],
)
def test_what_is_no_code_is_one_sentence(images: ImageTokenizer, codes: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_form(codes, images.quantizer.spec, "b", "h", "w")
    assert words in str(caught.value)


def test_what_is_no_folder_of_a_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json: give the folder of a saved model"):
        ImageTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no pipeline\.json: give the folder of a pipeline"):
        ImageGenerationPipeline.from_pretrained(tmp_path)


def test_files_that_are_no_image(images: ImageTokenizer, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png can't be read as an image"):
        images.encode(tmp_path / "text.png")
    with pytest.raises(ValueError, match=r"missing\.png is not a file"):
        images.encode(tmp_path / "missing.png")
    with pytest.raises(ValueError, match=r"is not a file"):
        images.encode(tmp_path)
    cut = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(cut, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(cut.getvalue()[:600])
    with pytest.raises(ValueError, match=r"cut\.jpg can't be read as an image"):
        images.encode(tmp_path / "cut.jpg")


@pytest.mark.parametrize(
    "given",
    [
        CLIP,
        torch.from_numpy(CLIP),
        np.stack([CLIP, CLIP], 1),
        torch.from_numpy(np.stack([CLIP, CLIP])),
        CLIP.astype(np.float64),
    ],
    ids=["samples", "tensor", "stereo", "stereo-tensor", "double"],
)
def test_a_clip_is_the_same_however_it_is_held(speech: SpeechTokenizer, given: object) -> None:
    assert torch.equal(speech.preprocess(given), torch.from_numpy(CLIP)[None])
    expected = speech.encode(torch.from_numpy(CLIP)[None])
    assert torch.equal(speech.encode(speech.preprocess(given)), expected)


def test_a_clips_rate_is_said_or_in_its_file(speech: SpeechTokenizer, tmp_path: Path) -> None:
    doubled = np.repeat(CLIP, 2)
    soundfile.write(tmp_path / "clip.wav", doubled, 2 * RATE, subtype="FLOAT")
    ready = speech.preprocess(doubled, sample_rate=2 * RATE)
    assert ready.shape == (1, len(CLIP))
    assert torch.equal(speech.preprocess(tmp_path / "clip.wav"), ready)
    assert torch.equal(speech.encode(str(tmp_path / "clip.wav")), speech.encode(ready))
    shorts = (CLIP * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
    torch.testing.assert_close(
        speech.preprocess(shorts)[0], torch.from_numpy(CLIP), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (CLIP[None], "would have 1600 channels: say channels_first=True"),
        (np.zeros((2, 2, 2), np.float32), "must have the shape (t,) or (t, c)"),
        (np.zeros(0, np.float32), "a clip of shape (0,) must have"),
        (CLIP * 9, "give floats in [-1, 1]"),
        (np.full(4, np.nan), "a clip with a value of nan"),
        (np.zeros(4, np.int64), "a clip of type torch.int64"),
        ({"array": CLIP}, "dict is no clip: give a path, an array or a tensor"),
        ("missing.wav", "missing.wav is not a file"),
    ],
)
def test_what_is_no_clip_is_one_sentence(
    speech: SpeechTokenizer, given: object, words: str
) -> None:
    with pytest.raises(ValueError) as caught:
        speech.preprocess(given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_mixed_precision_changes_no_code(images: ImageTokenizer, speech: SpeechTokenizer) -> None:
    clip: Tensor = torch.from_numpy(CLIP)[None]
    exact = images.encode(EXACT), speech.encode(clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = images.encode(EXACT), speech.encode(clip)
    assert all(map(torch.equal, exact, mixed))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_tokenizer_in_half_precision_does_not_encode(
    images: ImageTokenizer, dtype: torch.dtype
) -> None:
    half = ImageTokenizer(images.config).to(dtype)
    with pytest.raises(ValueError, match=f"a tokenizer in {dtype} would give other codes"):
        half.encode(EXACT)
