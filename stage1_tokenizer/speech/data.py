"""Clips with labels, speakers and texts, from many sources, decoded on demand."""

import functools
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from jaxtyping import Float
from torch import Tensor

from common.bounds import Count, Positive
from common.extras import Extra
from stage1_tokenizer.data import (
    SPREAD,
    BadItemError,
    DataConfig,
    ItemDataset,
    Row,
    Rows,
    UnfitItemError,
    fingerprint,
    load_rows,
    refuse_items,
    stored_file,
    with_columns,
)
from stage1_tokenizer.labels import value_names
from stage1_tokenizer.speech.audio_folder import audio_folder_rows
from stage1_tokenizer.speech.spoken_digits import spoken_digits

soundfile, soxr = Extra("soundfile"), Extra("soxr")

STORED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
"""What datasets.Audio stores of a clip; of a stream it would itself ask for a package to encode audio by."""
LOUDEST = 4.0
"""Clips with larger samples are bad: damaged, or floats that were not divided by 32,768. Full scale is 1; lossy codecs
and mixes overshoot it by less than 12 dB."""
LEAST_RATE = 1_000
"""Files with fewer samples per second are bad: damaged, and resampling would make very many samples of them."""
TEXTS = re.compile("string|large_string|u?int|float|double")
"""Beginnings of the names of types whose values are texts, or numbers that stand for them."""
TRIES = 8
"""Random parts of one clip that are tried, until one is not silent."""


@dataclass(frozen=True, kw_only=True)
class SpeechDataConfig(DataConfig):
    """Where the clips are."""

    source: str = "spoken_digits"
    """`spoken_digits` (synthesised here), `parquet`, a folder of audio files (`train`,
    `validation` and `test` folders are splits, folders in them labels, a metadata.csv in them has file_name
    and further columns), or the name of a data set on the Hub."""
    audio_column: str = "audio"
    """The column of the clips."""
    speaker_column: str | None = "speaker"
    """The column of the speakers; null if there are none."""
    text_column: str | None = "text"
    """The column of the texts; null if there are none."""
    shuffle_buffer: Count = 1_000
    """Clips in the shuffle buffer of a stream, which holds them in memory as they are stored."""


@dataclass(frozen=True, kw_only=True)
class SpeechAugmentConfig:
    """How clips are cut and varied in training."""

    crop_seconds: Positive = 3.0
    """Length of one training item; a shorter clip is padded with zeros, which are masked."""
    silence_db: float = -40.0
    """A crop whose root mean square is below this (0 is full scale) is not trained on."""
    gain_db: tuple[float, float] = (-6.0, -1.0)
    """Range of the random gain of a crop."""

    def __post_init__(self) -> None:
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db={self.gain_db} must be in rising order: set augment.gain_db")


@dataclass(frozen=True)
class SpeechDataset(ItemDataset):
    """One split of clips."""

    config: SpeechDataConfig
    sample_rate: int
    """Of every decoded waveform, whatever that of its file."""
    speakers: tuple[str, ...]
    """Names of the speakers; empty for clips without."""

    def decode(self, row: Row) -> Float[Tensor, " t"]:
        """The whole clip of a row: one channel, at `sample_rate`. Raises BadItemError."""
        return read_audio(row[self.config.audio_column], self.sample_rate)

    def crop(
        self, row: Row, generator: torch.Generator, augment: SpeechAugmentConfig
    ) -> tuple[Float[Tensor, " t"], int]:
        """A random part of `crop_seconds`, its gain random, and how many samples are not padding.

        Raises BadItemError, and UnfitItemError where none of several parts was loud enough.
        """
        size = round(augment.crop_seconds * self.sample_rate)
        low, high = augment.gain_db
        stored = row[self.config.audio_column]
        for _ in range(TRIES):
            place, gain = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
            crop = read_audio(stored, self.sample_rate, augment.crop_seconds, place)[:size]
            if decibels(crop) >= augment.silence_db:
                crop = crop * 10 ** ((low + (high - low) * gain) / 20)
                return F.pad(crop, (0, size - len(crop))), len(crop)
        raise UnfitItemError(f"{self.name(row)} (silent: set augment.silence_db)")

    def training_item(
        self, row: Row, generator: torch.Generator, augment: SpeechAugmentConfig
    ) -> dict[str, Tensor | int]:
        """A random part of a row's clip as `waveforms`, its length as `lengths`. Raises as `crop` does."""
        waveform, length = self.crop(row, generator, augment)
        return {"waveforms": waveform, "lengths": length}

    def speaker(self, row: Row) -> int:
        """The index of a row's speaker, 0 where there are none."""
        return self.value_index(row, self.config.speaker_column, self.speakers)

    def text(self, row: Row) -> str:
        """What is said, empty where that is not known; of a ClassLabel its name."""
        column = self.config.text_column
        if column is None or row[column] is None:
            return ""
        feature = self.rows.features[column]
        named = isinstance(feature, datasets.ClassLabel)
        return feature.int2str(row[column]) if named else str(row[column])

    def name(self, row: Row) -> str:
        """The name of a row's file."""
        return file_name(row[self.config.audio_column])

    def conversions(self) -> str | None:
        """One line that says what decoding changes, None if nothing, by a look at some clips, of a stream the first."""
        opened, rates, several = 0, set(), 0
        for row in islice(self.spread(SPREAD), SPREAD):
            try:
                with open_audio(row[self.config.audio_column]) as file:
                    rates.add(file.samplerate)
                    several += file.channels > 1
                    opened += 1
            except (OSError, TypeError, soundfile.SoundFileError):
                continue  # training counts these
        changes = []
        if several:
            changes.append(f"{several} of {opened} clips looked at are mixed down to one channel")
        if others := sorted(rates - {self.sample_rate}):
            from_rates = " and ".join(map(str, others))
            changes.append(f"clips at {from_rates} Hz are resampled to {self.sample_rate} Hz")
        return f"{self.config.source}: {', '.join(changes)}" if changes else None


def read_audio(
    stored: Row | None, sample_rate: int, seconds: float | None = None, place: float = 0.0
) -> Float[Tensor, " t"]:
    """The samples of a file of audio, mixed down and resampled. Raises BadItemError.

    With `seconds` only so many are read, at `place` in [0, 1) of all places where they fit.
    """
    if stored is None:
        raise BadItemError(file_name(stored))
    try:
        with open_audio(stored) as file:
            count, rate = file.frames, file.samplerate
            if rate < LEAST_RATE:
                raise BadItemError(file_name(stored))
            if seconds is not None:
                count = -int(-seconds * rate // 1)
                skip(file, int(place * (max(file.frames - count, 0) + 1)))
            samples = file.read(count, dtype="float32", always_2d=True)
    except (OSError, TypeError, ValueError, soundfile.SoundFileError):
        raise BadItemError(file_name(stored)) from None
    if len(samples) == 0:
        raise BadItemError(file_name(stored))
    if not (loudest := float(abs(samples).max())) <= LOUDEST:  # true for nan, too
        raise BadItemError(f"{file_name(stored)} (a sample of {loudest:g}, where full scale is 1)")
    mono = samples.mean(1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
        if len(mono) == 0:  # a few samples at a high rate are none at a low one
            raise BadItemError(file_name(stored))
    return torch.from_numpy(np.ascontiguousarray(mono))


def skip(file: Any, frames: int) -> None:
    """Goes to a frame from the start, also in codings that can only be read one after another, such as GSM 6.10."""
    try:
        file.seek(frames)
    except soundfile.SoundFileError:
        file.read(frames)


def file_name(stored: Row | None) -> str:
    """The name of a file of audio."""
    return str((stored or {}).get("path") or "a clip without a name")


def open_audio(stored: Row) -> Any:
    """The open soundfile.SoundFile of a struct of bytes and path. Raises OSError or SoundFileError."""
    return soundfile.SoundFile(stored_file(stored))


def decibels(waveform: Float[Tensor, " t"]) -> float:
    """The root mean square, with a full-scale square wave at 0 dB; silence is -200."""
    return 10 * float(waveform.double().square().mean().clamp_min(1e-20).log10())


def load_clips(config: SpeechDataConfig, split: str, *, sample_rate: int) -> SpeechDataset:
    """A split of the config: `train`, `validation` or `test`.

    Raises ValueError, in one sentence, for a source, split or column that is not there, and for texts that are none.
    """

    @functools.cache
    def train_rows() -> Rows:
        return rows if split == "train" else clip_rows(config, "train")

    def names(key: str) -> tuple[str, ...]:
        return value_names(rows, train_rows, config, key)

    rows = clip_rows(config, split)
    rows = with_columns(
        rows, config, "audio_column", "label_column", "speaker_column", "text_column"
    )
    feature = rows.features[config.audio_column]
    of_files = isinstance(feature, dict) and not feature.keys().isdisjoint(("bytes", "path"))
    if not (of_files or isinstance(feature, datasets.Audio)):
        refuse_items(config, "audio_column", feature)
    if isinstance(feature, datasets.Audio):
        stored = datasets.Audio(decode=False) if isinstance(rows, Dataset) else STORED
        rows = rows.cast_column(config.audio_column, stored)
    refuse_other_texts(config, rows)
    return SpeechDataset(
        rows,
        config,
        names("label_column"),
        fingerprint(rows, config, split, config.audio_column),
        sample_rate,
        names("speaker_column"),
    )


def refuse_other_texts(config: SpeechDataConfig, rows: Rows) -> None:
    """Raises ValueError for a column of texts whose values are neither texts nor numbers."""
    if config.text_column is None:
        return
    feature = rows.features[config.text_column]
    if not TEXTS.match(getattr(feature, "dtype", "")):
        raise ValueError(
            f"data.text_column={config.text_column!r} has values of the type {feature}: set data.text_column to a "
            "column of texts or numbers, or to null for none"
        )


def clip_rows(config: SpeechDataConfig, split: str) -> Rows:
    """The rows of a split."""
    embedded, speaker = {"spoken_digits": spoken_digits}, config.speaker_column
    return load_rows(config, split, embedded, audio_folder_rows, speaker_column=speaker)
