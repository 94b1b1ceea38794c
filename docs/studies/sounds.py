"""The sounds and spectrograms of docs/listen.md: `python docs/studies/sounds.py fsdd configs/fsdd.yaml [key=value ...]`,
after `simvq run` of the same recipe, writes docs/sounds/fsdd.png, fsdd-reconstructions.flac and fsdd-samples.flac.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import HERE
from torch import Tensor

from pipelines.experiment import Experiment, read_experiment
from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.speech.data import load_clips
from stage1_tokenizer.speech.figures import show_spectrogram

UNLABELLED, LONGEST, PAUSE, COLUMNS = 3, 4.0, 0.25, 5
"""Clips of a data set without labels; seconds of a clip, and between two; clips that the figure shows."""
Waveforms = Sequence[Tensor]


def real_clips(experiment: Experiment, rate: int) -> tuple[list[Tensor], list[str]]:
    """The first test clip of each label, or the first few of all, and the labels' names."""
    data = load_clips(experiment.config("score").data, "test", sample_rate=rate)
    rows = [*range(UNLABELLED)]
    if data.classes:
        labels = [data.label(data[i]) for i in range(len(data))]
        rows = [labels.index(label) for label in range(len(data.classes))]
    longest = round(LONGEST * rate)
    return [data.decode(data[i])[:longest] for i in rows], [*data.classes]


def sampled_clips(folder: Path, count: int, classes: int) -> list[Tensor]:
    """A sample of each label, each of the next speaker in turn; without labels the first ones."""
    numbers = [i * (classes + 1) if classes else i for i in range(count)]
    waveforms = [soundfile.read(folder / f"{i:06d}.wav", dtype="float32")[0] for i in numbers]
    return [*map(torch.from_numpy, waveforms)]


@torch.no_grad()
def sides(experiment: Experiment) -> tuple[dict[str, Waveforms], list[str], int]:
    """Test clips, their reconstructions and samples; the labels; the sample rate."""
    tokenizer = SpeechTokenizer.from_pretrained(
        experiment.config("prior").run_dir / "pipeline" / "tokenizer"
    )
    rate = tokenizer.config.sample_rate
    real, names = real_clips(experiment, rate)
    decoded = [tokenizer.decode(tokenizer.encode(x[None]))[0, : len(x)] for x in real]
    samples = sampled_clips(experiment.config("samples").out, len(real), len(names))
    limited = [x[: round(LONGEST * rate)] for x in samples]
    return {"test clip": real, "reconstruction": decoded, "sample": limited}, names, rate


def spectrograms(waveforms: dict[str, Waveforms], names: list[str], rate: int) -> Figure:
    """A line for each side, a column for each clip."""
    columns = min(COLUMNS, *map(len, waveforms.values()))
    figure = pyplot.figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots(len(waveforms), columns, sharey=True, squeeze=False)
    for line, (side, clips) in zip(axes, waveforms.items(), strict=True):
        for axis, waveform in zip(line, clips, strict=False):
            shown = show_spectrogram(axis, waveform, rate)
        line[0].set_ylabel(f"{side}\nkHz")
    for axis, name in zip(axes[0], names, strict=False):
        axis.set_title(name, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.colorbar(shown, ax=axes, label="dB")
    return figure


def write_sound(waveforms: Waveforms, rate: int, path: Path) -> None:
    """The clips one after the other, as lossless 16-bit FLAC."""
    pause = torch.zeros(round(PAUSE * rate))
    parts = [part for waveform in waveforms for part in (waveform, pause)]
    soundfile.write(path, torch.cat(parts).clamp(-1, 1).numpy(), rate, subtype="PCM_16")


if __name__ == "__main__":
    name, recipe, *changes = sys.argv[1:]
    folder = HERE.parent / "sounds"
    folder.mkdir(exist_ok=True)
    clips, labels, rate = sides(read_experiment(Path(recipe), changes))
    spectrograms(clips, labels, rate).savefig(folder / f"{name}.png", dpi=80)
    write_sound(clips["reconstruction"], rate, folder / f"{name}-reconstructions.flac")
    write_sound(clips["sample"], rate, folder / f"{name}-samples.flac")
