"""The sounds and pictures of the report on speech."""

from pathlib import Path
from typing import Any

import matplotlib
from jaxtyping import Int
from torch import Tensor

from common.pictures import save_figure, save_histogram
from pipelines.report import Figure, Sounds, figure
from pipelines.score_figures import curve_figures
from pipelines.speech_clips import Clips
from pipelines.speech_rows import SpeechReconstructor
from stage1_tokenizer.speech_pictures import save_spectrograms, wav_bytes

matplotlib.use("Agg")
from matplotlib import pyplot

PLAYED, DRAWN = 10, 4
"""Samples and reconstructions that can be heard, and whose spectrograms are drawn."""
BINS = 40


def speech_figures(
    sampled: Clips,
    train: Clips,
    reconstructor: SpeechReconstructor,
    histogram: Int[Tensor, " k"] | None,
    tokenizer_run: Path | None,
    prior_run: Path | None,
) -> list[Figure | Sounds]:
    """Samples and reconstructions to hear and to see, durations, the use of the codes, curves."""
    rate, originals, made = train.sample_rate, reconstructor.originals, reconstructor.clips
    pairs = [
        {"original": original, "reconstruction": rebuilt}
        for original, rebuilt in zip(originals.waveforms, made.waveforms, strict=True)
    ]
    heard = {
        f"held-out {i}, {name}{said(originals, i)}": wav_bytes(waveform, rate)
        for i, pair in enumerate(pairs[:PLAYED])
        for name, waveform in pair.items()
    }
    drawn = [
        {f"sample {i}{said(sampled, i)}": sampled.waveforms[i]}
        for i in range(min(DRAWN, len(sampled)))
    ]
    where = "held-out" if histogram is None else "training"
    counts = reconstructor.histogram if histogram is None else histogram
    scale = "Seconds, kHz, and one scale of dB for all; 0 dB is a sine at full scale."
    return [
        Sounds("Samples", "The first samples, uncurated.", {
            f"sample {i}{said(sampled, i)}": wav_bytes(waveform, rate)
            for i, waveform in enumerate(sampled.waveforms[:PLAYED])
        }),
        figure("Spectrograms of samples", scale, lambda path: save_spectrograms(drawn, rate, path)),
        Sounds("Reconstructions", "Held-out recordings, and after encode and decode.", heard),
        figure(
            "Spectrograms of reconstructions",
            scale,
            lambda path: save_spectrograms(pairs[:DRAWN], rate, path),
        ),
        figure(
            "Durations",
            "Of samples, training and held-out recordings, as shares of each set.",
            lambda path: save_durations(
                {"train": train, "held-out": originals, "samples": sampled}, path
            ),
        ),
        figure(
            "Use of the codes", f"In the {where} recordings.",
            lambda path: save_histogram(counts, path),
        ),
        *curve_figures("tokenizer", tokenizer_run),
        *curve_figures("prior", prior_run),
    ]  # fmt: skip


def said(clips: Clips, index: int) -> str:
    """The label and speaker of a clip, as far as they are known."""
    parts: list[Any] = []
    if clips.classes:
        parts.append(clips.classes[int(clips.labels[index])])
    if clips.speaker_names:
        parts.append(clips.speaker_names[int(clips.speakers[index])])
    return f": {', '.join(parts)}" if parts else ""


def save_durations(sets: dict[str, Clips], path: Path) -> None:
    """Draws histograms of the named sets over common bins."""
    longest = max(max(clips.seconds) for clips in sets.values())
    drawing, axis = pyplot.subplots(figsize=(7, 3), layout="constrained")
    for name, clips in sets.items():
        axis.hist(
            clips.seconds, BINS, (0, longest), weights=[1 / len(clips)] * len(clips),
            histtype="step", label=f"{name} ({len(clips):,})",
        )  # fmt: skip
    axis.set(xlabel="seconds", ylabel="share of clips")
    axis.legend()
    save_figure(drawing, path)
