"""Speech as files to look at and to listen to: spectrograms on one scale, and WAV."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from torch import Tensor

from common.extras import Extra
from common.figures import save_figure
from common.files import replaced_file

soundfile = Extra("soundfile")

WINDOW_SECONDS = 0.025
RANGE_DB = (-80.0, 0.0)
"""Of every spectrogram; 0 dB is a sine at full scale."""


def decibel_spectrogram(waveform: Float[Tensor, " t"], sample_rate: int) -> Float[Tensor, "f n"]:
    """Short-time amplitudes in dB, four frames per window of 25 ms, 0 dB for a sine at full scale."""
    size = 4 * round(WINDOW_SECONDS * sample_rate / 4)
    window = torch.hann_window(size)
    spectrum = torch.stft(
        F.pad(waveform.float().cpu(), (0, max(size - len(waveform), 0))),
        size,
        size // 4,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    return 20 * (spectrum.abs() * 2 / window.sum()).clamp_min(1e-10).log10()


def show_spectrogram(axis: Axes, waveform: Float[Tensor, " t"], sample_rate: int) -> AxesImage:
    """Draws a waveform's spectrogram on the one dB scale of all: seconds, kHz."""
    low, high = RANGE_DB
    return axis.imshow(
        decibel_spectrogram(waveform, sample_rate).numpy(),
        origin="lower",
        aspect="auto",
        extent=(0, len(waveform) / sample_rate, 0, sample_rate / 2000),
        vmin=low,
        vmax=high,
    )


def save_spectrograms(columns: Sequence[dict[str, Tensor]], sample_rate: int, path: Path) -> None:
    """Plots the named waveforms of each column under each other: seconds, kHz, and one dB scale."""
    height, width = len(columns[0]), len(columns)
    figure, axes = pyplot.subplots(
        height,
        width,
        figsize=(2.3 * width + 0.6, 2 * height),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for x, column in enumerate(columns):
        for y, (name, waveform) in enumerate(column.items()):
            image = show_spectrogram(axes[y, x], waveform, sample_rate)
            axes[y, x].set_title(name.replace(": ", "\n"), fontsize="small")
            axes[y, x].tick_params(labelsize="small")
        axes[-1, x].set_xlabel("seconds", fontsize="small")
    for first in axes[:, 0]:
        first.set_ylabel("kHz", fontsize="small")
    figure.colorbar(image, ax=axes, label="dB")
    save_figure(figure, path)


def wav_bytes(waveform: Float[Tensor, " t"], sample_rate: int) -> bytes:
    """A file of 16-bit WAV, samples beyond [-1, 1] clipped."""
    samples = np.clip(waveform.float().cpu().numpy(), -1, 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def save_waveform(waveform: Float[Tensor, " t"], sample_rate: int, path: Path) -> None:
    """Writes 16-bit WAV, samples beyond [-1, 1] clipped, whole or not at all."""
    with replaced_file(path) as partial:
        partial.write_bytes(wav_bytes(waveform, sample_rate))
