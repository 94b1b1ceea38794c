"""Clips to be scored, whole and in memory: of a data set's split, or of a folder of samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.extras import Extra
from stage1_tokenizer.data import BadItemError
from stage1_tokenizer.speech.data import SpeechDataset

soundfile = Extra("soundfile")

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Clips:
    """A set of clips at one rate."""

    waveforms: list[Float[Tensor, " t"]]
    sample_rate: int
    indices: Int[Tensor, " n"]
    """Where they stand in their source."""
    labels: Int[Tensor, " n"]
    """0 where there are no classes."""
    speakers: Int[Tensor, " n"]
    """0 where no speakers are named."""
    classes: tuple[str, ...]
    speaker_names: tuple[str, ...]
    texts: tuple[str, ...] = ()
    """What is said in each; empty where that is not known."""
    bad: tuple[str, ...] = ()
    """Names of the clips that could not be decoded, and are left out."""

    def __len__(self) -> int:
        return len(self.waveforms)

    @property
    def seconds(self) -> list[float]:
        """The duration of each."""
        return [len(waveform) / self.sample_rate for waveform in self.waveforms]


def read_clips(dataset: SpeechDataset) -> Clips:
    """Every clip of a split. Raises ValueError where none can be decoded."""
    waveforms, places, texts, bad = [], [], [], []
    for index, item in enumerate(dataset.rows):
        try:
            waveforms.append(dataset.decode(item))
        except BadItemError as error:
            bad.append(str(error))
            continue
        places.append((index, dataset.label(item), dataset.speaker(item)))
        texts.append(dataset.text(item))
    if not waveforms:
        raise ValueError(
            f"{dataset.config.source}: none of {len(bad)} clips can be decoded: set data.source"
        )
    indices, labels, speakers = torch.tensor(places).T.contiguous()
    return Clips(
        waveforms,
        dataset.sample_rate,
        indices,
        labels,
        speakers,
        dataset.classes,
        dataset.speakers,
        tuple(texts) if dataset.config.text_column else (),
        tuple(bad),
    )


def unlabelled(waveforms: list[Float[Tensor, " t"]], sample_rate: int) -> Clips:
    """Clips of which nothing is known."""
    none = torch.zeros(len(waveforms), dtype=torch.int64)
    return Clips(waveforms, sample_rate, torch.arange(len(waveforms)), none, none, (), ())


def sampled_clips(folder: Path, sampling: dict[str, Any]) -> Clips:
    """The samples that sample.json describes. A text that is the name of a label is that label.

    Raises ValueError for another number of files, a file that is not sound or of another rate.
    """
    paths, rate = sorted(folder.glob("*.wav")), sampling["sample_rate"]
    labels, speakers, texts = (sampling[key] for key in ("labels", "speakers", "texts"))
    for entries in (paths, labels, speakers, texts):
        if entries is not None and len(entries) != sampling["count"]:
            raise ValueError(
                f"samples={folder} has {len(paths)} WAV files, sample.json says {sampling['count']} "
                "and must have as many labels, speakers and texts: run `simvq sample` again"
            )
    classes = tuple(sampling["classes"] or ())
    if labels is None and texts and {*texts} <= {*spoken(classes)}:
        labels = [spoken(classes).index(text) for text in texts]
    none = torch.zeros(len(paths), dtype=torch.int64)
    return Clips(
        [read_sample(path, rate) for path in paths],
        rate,
        torch.arange(len(paths)),
        none if labels is None else torch.tensor(labels),
        none if speakers is None else torch.tensor(speakers),
        classes if labels is not None else (),
        tuple(sampling["speaker_names"]) if speakers is not None else (),
        tuple(texts or ()),
    )


def spoken(classes: tuple[str, ...]) -> tuple[str, ...]:
    """How labels are said: the digits 0 to 9 as words, all else as it is written."""
    return tuple(DIGITS[int(name)] if name in set("0123456789") else name for name in classes)


def read_sample(path: Path, sample_rate: int) -> Float[Tensor, " t"]:
    """The samples of a WAV file. Raises ValueError for one that is empty, not mono, or of another rate."""
    try:
        waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path} can't be read ({error}): run `simvq sample` again") from None
    if rate != sample_rate or waveform.shape[1] != 1 or len(waveform) == 0:
        raise ValueError(
            f"{path} has {len(waveform)} samples in {waveform.shape[1]} channels at {rate} Hz, it must "
            f"have one channel at {sample_rate} Hz: run `simvq sample` again"
        )
    return torch.from_numpy(waveform[:, 0].copy())


def words_said(clips: Clips) -> list[str]:
    """The text of each clip, or else its label as it is said; nothing where neither is known."""
    if clips.texts:
        return list(clips.texts)
    words = spoken(clips.classes)
    return [words[label] for label in clips.labels.tolist()] if words else []
