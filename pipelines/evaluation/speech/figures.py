"""The sounds and pictures of the report on speech."""

from pathlib import Path
from typing import Any

import matplotlib
from jaxtyping import Int
from torch import Tensor

from common.figures import save_figure, save_histogram
from pipelines.evaluation.images.figures import curve_figures
from pipelines.evaluation.report import Figure, Sounds, figure
from pipelines.evaluation.speech.data import Clips
from pipelines.evaluation.speech.rows import SpeechReconstructor
from stage1_tokenizer.speech.figures import save_spectrograms, wav_bytes

matplotlib.use("Agg")
from matplotlib import pyplot

PLAYED, DRAWN = 10, 4
"""Samples and reconstructions that can be heard, and whose spectrograms are drawn."""
BINS = 40
SCALE = "Seconds, kHz, and one scale of dB for all; 0 dB is a sine at full scale."


def speech_figures(
    sampled: Clips | None,
    train: Clips,
    reconstructor: SpeechReconstructor,
    histogram: Int[Tensor, " k"] | None,
    tokenizer_run: Path | None,
    prior_run: Path | None,
) -> list[Figure | Sounds]:
    """Samples and reconstructions to hear and to see, durations, the use of the codes, curves."""
    sets = {"train": train, "held-out": reconstructor.originals}
    sets |= {"samples": sampled} if sampled else {}
    return [
        *(samples_heard(sampled) if sampled else []),
        *reconstructions_heard(reconstructor.originals, reconstructor.clips),
        figure(
            "Durations",
            f"Of {', '.join(sets)} recordings, as shares of each set.",
            lambda path: save_durations(sets, path),
        ),
        *([codes_figure(reconstructor, histogram)] if reconstructor.spec.has_codes else []),
        *curve_figures("tokenizer", tokenizer_run),
        *curve_figures("prior", prior_run),
    ]


def codes_figure(reconstructor: SpeechReconstructor, histogram: Int[Tensor, " k"] | None) -> Figure:
    """How often each code is chosen: in the codes folder if there is one, else in what was held out."""
    where = "held-out" if histogram is None else "training"
    counts = reconstructor.histogram if histogram is None else histogram
    return figure(
        "Use of the codes",
        f"In the {where} recordings.",
        lambda path: save_histogram(counts, path),
    )


def samples_heard(clips: Clips) -> list[Figure | Sounds]:
    """The first samples, to hear and to see."""
    named = [
        (f"sample {i}{said(clips, i)}", waveform)
        for i, waveform in enumerate(clips.waveforms[:PLAYED])
    ]
    rate, columns = clips.sample_rate, [{name: waveform} for name, waveform in named[:DRAWN]]
    players = {name: wav_bytes(waveform, rate) for name, waveform in named}
    return [
        Sounds("Samples", "The first samples, uncurated.", players),
        figure(
            "Spectrograms of samples", SCALE, lambda path: save_spectrograms(columns, rate, path)
        ),
    ]


def reconstructions_heard(originals: Clips, made: Clips) -> list[Figure | Sounds]:
    """The first held-out recordings and their reconstructions, to hear and to see."""
    rate, players, columns = originals.sample_rate, {}, []
    pairs = [*zip(originals.waveforms, made.waveforms, strict=True)][:PLAYED]
    for i, (original, rebuilt) in enumerate(pairs):
        columns.append({f"original {i}": original, f"reconstruction {i}": rebuilt})
        for name, waveform in columns[-1].items():
            players[f"{name}{said(originals, i)}"] = wav_bytes(waveform, rate)
    return [
        Sounds("Reconstructions", "Held-out recordings, and after encode and decode.", players),
        figure(
            "Spectrograms of reconstructions",
            SCALE,
            lambda path: save_spectrograms(columns[:DRAWN], rate, path),
        ),
    ]


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
            clips.seconds, bins=BINS, range=(0, longest), weights=[1 / len(clips)] * len(clips),
            histtype="step", label=f"{name} ({len(clips):,})",
        )  # fmt: skip
    axis.set(xlabel="seconds", ylabel="share of clips")
    axis.legend()
    save_figure(drawing, path)
