"""Sounds for the page: spectrograms as images, other sampling rates, an anchor for listening."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import soxr
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stage1_tokenizer.speech.figures import save_spectrograms

ANCHOR_HZ = 3500
"""What the anchor is cut off at (ITU-R BS.1534), or a quarter of the sampling rate if that is lower."""


def spectrograms(columns: Sequence[dict[str, Tensor]], sample_rate: int) -> Image.Image:
    """Named waveforms of each column under each other, on one scale."""
    with tempfile.TemporaryDirectory() as folder:
        save_spectrograms(columns, sample_rate, Path(folder) / "spectrograms.png")
        with Image.open(Path(folder) / "spectrograms.png") as image:
            return image.convert("RGB")


def resampled(waveform: Float[Tensor, " t"], rate: int, other: int) -> Float[Tensor, " u"]:
    """The waveform at another sampling rate."""
    if rate == other:
        return waveform
    return torch.from_numpy(soxr.resample(waveform.numpy(), rate, other))


def anchor_hz(sample_rate: int) -> int:
    """The frequency that the anchor is cut off at."""
    return min(ANCHOR_HZ, sample_rate // 4)


def anchor(waveform: Float[Tensor, " t"], sample_rate: int) -> Float[Tensor, " t"]:
    """The waveform without what lies above the anchor's frequency, of the same length."""
    low = resampled(waveform, sample_rate, 2 * anchor_hz(sample_rate))
    again = resampled(low, 2 * anchor_hz(sample_rate), sample_rate)[: len(waveform)]
    return torch.nn.functional.pad(again, (0, len(waveform) - len(again)))
