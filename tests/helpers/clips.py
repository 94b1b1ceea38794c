"""Clips of noise, and the marks of a tiny Whisper."""

import torch

from pipelines.evaluation.speech.data import Clips

RATE = 8000
MARKS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|transcribe|>",
    "<|translate|>",
    "<|notimestamps|>",
)


def noises(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(1000 + 500 * i, generator=generator) for i in range(count)]


def clips_of(
    waveforms: list[torch.Tensor],
    sample_rate: int = RATE,
    classes: tuple[str, ...] = (),
    texts: tuple[str, ...] = (),
) -> Clips:
    """Clips of the first class, if there is any, and of no speaker."""
    first = torch.zeros(len(waveforms)).long()
    return Clips(waveforms, sample_rate, first, first, first, classes, (), texts)
