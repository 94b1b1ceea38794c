"""The sounds and figures of the report on speech."""

import tempfile
from pathlib import Path

from matplotlib import pyplot
from torch import Tensor

from common.figures import png
from pipelines.evaluation.examples import varied
from pipelines.evaluation.report import AudioPlayers, Figure
from pipelines.evaluation.speech.data import Clips
from stage1_tokenizer.speech.figures import save_spectrograms, wav_bytes

PLAYED, SHOWN = 10, 4
"""Samples and reconstructions that can be played, and whose spectrograms are shown."""
OVER_GROUPS = ", labels and speakers taken in turn as far as they are known"
BINS = 40
SCALE = "Seconds, kHz, and one scale of dB for all; 0 dB is a sine at full scale."


def sample_figures(clips: Clips) -> list[Figure | AudioPlayers]:
    """Samples of several labels and speakers, to hear and to see."""
    columns = [
        {f"sample {i}{description(clips, i)}": clips.waveforms[i]} for i in varied_places(clips)
    ]
    players = {name: waveform for column in columns for name, waveform in column.items()}
    caption = f"The first samples{OVER_GROUPS}, uncurated."
    return players_and_spectrograms("Samples", caption, players, columns, clips.sample_rate)


def reconstruction_figures(originals: Clips, rebuilt: Clips) -> list[Figure | AudioPlayers]:
    """Held-out clips of several labels and speakers, and their reconstructions, to hear and to see."""
    columns = []
    for i in varied_places(originals):
        about = description(originals, i)
        pair = {"original": originals.waveforms[i], "reconstruction": rebuilt.waveforms[i]}
        columns.append({f"{name} {i}{about}": waveform for name, waveform in pair.items()})
    players = {name: waveform for column in columns for name, waveform in column.items()}
    caption = f"The first held-out clips{OVER_GROUPS}, and their reconstructions."
    rate = originals.sample_rate
    return players_and_spectrograms("Reconstructions", caption, players, columns, rate)


def varied_places(clips: Clips) -> list[int]:
    """Which clips are played, in order."""
    return varied([*zip(clips.labels.tolist(), clips.speakers.tolist(), strict=True)], PLAYED)


def players_and_spectrograms(
    title: str,
    caption: str,
    players: dict[str, Tensor],
    columns: list[dict[str, Tensor]],
    sample_rate: int,
) -> list[Figure | AudioPlayers]:
    """Players of named waveforms, and the spectrograms of the first columns of them."""
    wavs = {name: wav_bytes(waveform, sample_rate) for name, waveform in players.items()}
    shown = spectrograms_png(columns[:SHOWN], sample_rate)
    return [
        AudioPlayers(title, caption, wavs),
        Figure(f"Spectrograms of {title.lower()}", SCALE, shown),
    ]


def spectrograms_png(columns: list[dict[str, Tensor]], sample_rate: int) -> bytes:
    """Named waveforms of each column under each other, on one scale."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spectrograms.png"
        save_spectrograms(columns, sample_rate, path)
        return path.read_bytes()


def description(clips: Clips, index: int) -> str:
    """The label and speaker of a clip, as far as they are known."""
    parts = []
    if clips.classes:
        parts.append(clips.classes[int(clips.labels[index])])
    if clips.speaker_names:
        parts.append(clips.speaker_names[int(clips.speakers[index])])
    return f": {', '.join(parts)}" if parts else ""


def durations_figure(sets: dict[str, Clips]) -> Figure:
    """How long the clips of the named sets are."""
    caption = f"Of {', '.join(sets)} clips, as shares of each set."
    return Figure("Durations", caption, png(durations(sets)))


def durations(sets: dict[str, Clips]) -> pyplot.Figure:
    """Histograms of the named sets over common bins."""
    longest = max(max(clips.seconds) for clips in sets.values())
    figure, axis = pyplot.subplots(figsize=(8, 3), layout="constrained")
    for name, clips in sets.items():
        axis.hist(
            clips.seconds,
            bins=BINS,
            range=(0, longest),
            weights=[1 / len(clips)] * len(clips),
            histtype="step",
            label=f"{name} ({len(clips):,})",
        )
    axis.set(xlabel="seconds", ylabel="share of clips")
    axis.legend()
    return figure
