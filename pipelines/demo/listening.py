"""Blind listening in the manner of MUSHRA (ITU-R BS.1534): a hidden reference, an anchor, ratings from 0 to 100 in a file."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gradio
import torch
from torch import Tensor

from common.files import sha256, write_text
from common.seeding import generator_at
from pipelines.demo.compare import speech_rebuilt
from pipelines.demo.limits import check_size, errors_shown
from pipelines.demo.parts import clip_source, player
from pipelines.demo.sounds import anchor, anchor_hz
from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.speech.figures import wav_bytes

COLUMNS = ("time", "listener", "clip", "clip_sha256", "place", "system", "rating")
FILE = "listening.csv"
REFERENCE = "hidden reference"


@dataclass(frozen=True)
class Trial:
    """What one listener rates of one clip: the systems, in the order in which they are played."""

    listener: str
    clip: str
    clip_sha256: str
    systems: tuple[str, ...]


def shuffled(systems: Sequence[str], listener: str, clip_sha256: str) -> tuple[str, ...]:
    """The systems in an order that is another for each listener and clip, and the same when they come back."""
    digest = hashlib.sha256(f"{listener} {clip_sha256}".encode()).digest()
    generator = generator_at(int.from_bytes(digest[:4], "big"), 0)
    return tuple(systems[i] for i in torch.randperm(len(systems), generator=generator).tolist())


def stimuli(
    path: str | None, tokenizers: Mapping[str, SpeechTokenizer], rate: int
) -> dict[str, Tensor]:
    """What is to be rated: the clip itself, the anchor, and each tokenizer's reconstruction, equally long."""
    clips = speech_rebuilt(path, tokenizers, rate)
    original = clips.pop("original")
    clips = {REFERENCE: original, f"anchor {anchor_hz(rate)} Hz": anchor(original, rate), **clips}
    shortest = min(map(len, clips.values()))
    return {name: waveform[:shortest] for name, waveform in clips.items()}


def write_ratings(folder: Path, trial: Trial, ratings: Sequence[float]) -> Path:
    """Adds a row for each system to the folder's listening.csv, which is replaced whole."""
    path = folder / FILE
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    if not path.exists():
        rows.writerow(COLUMNS)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for place, (system, rating) in enumerate(zip(trial.systems, ratings, strict=True)):
        rating = min(max(round(float(rating)), 0), 100)
        rows.writerow(
            [now, trial.listener, trial.clip, trial.clip_sha256, place + 1, system, rating]
        )
    before = path.read_text() if path.exists() else ""
    write_text(path, before + text.getvalue())
    return path


class ListeningAnswers:
    """What the buttons do."""

    def __init__(self, tokenizers: Mapping[str, SpeechTokenizer], results: Path) -> None:
        self.tokenizers, self.results = tokenizers, results
        self.rate = max(tokenizer.config.sample_rate for tokenizer in tokenizers.values())
        self.count = len(tokenizers) + 2

    def begun(self, listener: str, path: str | None) -> list[Any]:
        """A trial, the reference, the sounds in the trial's order, and ratings of 50."""
        listener = listener.strip()
        if not listener:
            raise ValueError("say who is listening: fill in Listener")
        file = check_size(path, "clip")
        clips = stimuli(path, self.tokenizers, self.rate)
        digest = sha256(file)
        trial = Trial(listener, file.name, digest, shuffled([*clips], listener, digest))
        sounds = [wav_bytes(clips[system], self.rate) for system in trial.systems]
        reference = wav_bytes(clips[REFERENCE], self.rate)
        return [trial, reference, *sounds, *[50] * self.count, ""]

    def saved(self, trial: Trial | None, *ratings: float) -> tuple[None, str]:
        """Writes the ratings, and says which sound was which."""
        if trial is None:
            raise ValueError("there is nothing to save: begin with a clip first")
        path = write_ratings(self.results, trial, ratings)
        names = [f"sound {i + 1} was **{name}**" for i, name in enumerate(trial.systems)]
        return None, f"Saved to {path}: {', '.join(names)}."


def listening_tab(tokenizers: Mapping[str, SpeechTokenizer], results: Path | None) -> None:
    """Players without names, a slider for each, and a button that writes what they are set to."""
    if results is None:
        gradio.Markdown(
            "Ratings need a folder to be written to: start the page with `results=FOLDER`."
        )
        return
    answers = ListeningAnswers(tokenizers, results)
    gradio.Markdown(
        "Listen to the reference, then rate each sound against it: 100 is no difference, 0 very bad. One of them is the "
        "reference itself. The names are shown once the ratings are saved."
    )
    trial = gradio.State()
    listener = gradio.Textbox(label="Listener", max_length=60, elem_id="listener")
    clip = clip_source("Clip", "clip")
    begin = gradio.Button("Begin", elem_id="begin")
    reference = player("Reference", blind=True)
    players, sliders = [], []
    for i in range(1, answers.count + 1):
        with gradio.Row():
            players.append(player(f"Sound {i}", blind=True))
            sliders.append(gradio.Slider(0, 100, value=50, step=1, label=f"Rating of sound {i}"))
    save = gradio.Button("Save the ratings", variant="primary", elem_id="save")
    said = gradio.Markdown(elem_id="said")
    shown = [trial, reference, *players, *sliders, said]
    begin.click(errors_shown(answers.begun), [listener, clip], shown)
    save.click(errors_shown(answers.saved), [trial, *sliders], [trial, said])
