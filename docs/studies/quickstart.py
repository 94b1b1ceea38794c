"""README's figure: `python docs/studies/quickstart.py runs/digits runs/spoken_digits`, two finished runs of the quickstart."""

import json
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from dimension import digits
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from page import HERE, show_grid
from torch import Tensor

from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.speech.figures import show_spectrogram

LABELS, SAMPLES, WORD = 10, 3, 3


@torch.no_grad()
def image_lines(run: Path) -> list[np.ndarray]:
    """Held-out digits, their reconstructions, and samples of every label, each a line (y, x) of images."""
    tokenizer = ImageTokenizer.from_pretrained(run / "tokenizer" / "model")
    size = tokenizer.config.image_size
    images = digits("validation").unflatten(1, (1, size, size))[:LABELS]
    decoded = tokenizer.decode(tokenizer.encode(images)).clamp(-1, 1)
    lines = [(part[:, 0].numpy() + 1) / 2 for part in (images, decoded)]
    labels = np.array(json.loads((run / "samples" / "sample.json").read_text())["labels"])
    with np.load(run / "samples" / "samples.npz") as archive:
        samples = archive["arr_0"][..., 0] / 255
    of_label = np.stack([samples[labels == label][:SAMPLES] for label in range(LABELS)])
    lines += [of_label[:, i] for i in range(SAMPLES)]
    return [
        np.concatenate([np.pad(tile, 1, constant_values=1) for tile in line], axis=1)
        for line in lines
    ]


@torch.no_grad()
def waveforms(run: Path) -> dict[str, Tensor]:
    """A held-out clip, its reconstruction, and a sample of the same word."""
    tokenizer = SpeechTokenizer.from_pretrained(run / "tokenizer" / "model")
    rate = tokenizer.config.sample_rate
    held_out = load_clips(SpeechDataConfig(source="spoken_digits"), "validation", sample_rate=rate)
    clip = held_out.decode(next(item for item in held_out.rows if held_out.label(item) == WORD))
    decoded = tokenizer.decode(tokenizer.encode(clip[None]))[0, : len(clip)]
    labels = json.loads((run / "samples" / "sample.json").read_text())["labels"]
    sample, _ = soundfile.read(run / "samples" / f"{labels.index(WORD):06d}.wav", dtype="float32")
    return {
        "held-out clip": clip,
        "its reconstruction": decoded,
        "a sample": torch.from_numpy(sample),
    }


def show_images(axis: Axes, run: Path) -> None:
    """The grid of digits, its lines named."""
    names = ["held-out images", "reconstructions", *["samples by label"] * SAMPLES]
    show_grid(axis, image_lines(run), names, 1, (2,))
    axis.set_xticks([])


def write(images: Path, speech: Path) -> Figure:
    """Digits, and under them three spectrograms on one scale."""
    figure = pyplot.figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    show_images(above.subplots(), images)
    rate = SpeechTokenizer.from_pretrained(speech / "tokenizer" / "model").config.sample_rate
    clips = waveforms(speech)
    axes = below.subplots(1, len(clips), sharey=True)
    for axis, (name, waveform) in zip(axes, clips.items(), strict=True):
        shown = show_spectrogram(axis, waveform, rate)
        axis.set(title=name, xlabel="seconds")
    axes[0].set_ylabel("kHz")
    below.suptitle('the word "three"')
    below.colorbar(shown, ax=axes, label="dB")
    return figure


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2])).savefig(HERE.parent / "quickstart.png", dpi=100)
