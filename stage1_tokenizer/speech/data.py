"""SpeechDataset with labels, speakers and texts, from many sources, decoded on demand."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import soundfile
import soxr
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset, Value
from jaxtyping import Float
from torch import Tensor

from stage1_tokenizer.images.data import BadItemError
from stage1_tokenizer.parquet import parquet_rows
from stage1_tokenizer.speech.audio_folder import audio_folder_rows
from stage1_tokenizer.speech.spoken_digits import spoken_digits
from stage1_tokenizer.split import held_out_share, part_of

Row = dict[str, Any]
Part = Callable[[soundfile.SoundFile], tuple[int, int]]
"""First sample and number of samples to read of a file."""
TRIES = 8
"""Crops of one recording that are tried, until one is not silent."""
LOOKED_AT = 64
"""SpeechDataset that are looked at to describe a data set, and to tell it from others."""


@dataclass(frozen=True, kw_only=True)
class SpeechDataConfig:
    """Where the recordings are, and how they are cut for training."""

    source: str = "spoken_digits"
    """`spoken_digits` (synthesised here), `parquet`, a folder of audio files (`train` and
    `validation` folders are splits, folders in them labels, a metadata.csv in them has file_name
    and further columns), or the name of a data set on the Hub."""
    subset: str | None = None
    """The configuration of a Hub data set that has several."""
    train: str = "train"
    """The split to train on, for instance `train[:95%]`; for `parquet` a file or a pattern, with or
    without a slice."""
    validation: str = "validation"
    """The held-out split, or file; `10%` holds out that share of each label's training items."""
    audio_column: str = "audio"
    label_column: str | None = "label"
    """null where the recordings have no labels; so for the next two."""
    speaker_column: str | None = "speaker"
    text_column: str | None = "text"
    crop_seconds: float = 3.0
    """Length of one training item; a shorter recording is padded with zeros, which are masked."""
    silence_db: float = -40.0
    """A crop whose root mean square is below this (0 is full scale) is not trained on."""
    gain_db: tuple[float, float] = (-6.0, -1.0)
    """Range of the random gain of a crop."""

    def __post_init__(self) -> None:
        if self.crop_seconds <= 0 or self.gain_db[0] > self.gain_db[1]:
            raise ValueError(
                f"crop_seconds={self.crop_seconds} must be positive and gain_db={self.gain_db} in "
                "rising order: set data.crop_seconds or data.gain_db"
            )


class SilentItemError(BadItemError):
    """No crop of a recording was loud enough; the message is its name."""


@dataclass(frozen=True)
class SpeechDataset:
    """One split: rows with undecoded recordings, and what its labels and speakers are called."""

    rows: Dataset
    config: SpeechDataConfig
    sample_rate: int
    """Of every decoded waveform, whatever that of its file."""
    classes: tuple[str, ...]
    """Names of the labels; empty for recordings without."""
    speakers: tuple[str, ...]
    """Names of the speakers; empty for recordings without."""
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def decode(self, row: Row) -> Float[Tensor, " t"]:
        """The whole recording of a row: one channel, at `sample_rate`. Raises BadItemError."""
        return read_audio(row[self.config.audio_column], self.sample_rate)

    def crop(self, row: Row, generator: torch.Generator) -> tuple[Float[Tensor, " t"], int]:
        """A random part of `crop_seconds`, its gain random, and how many samples are not padding.

        Raises BadItemError, and SilentItemError where none of several crops was loud enough.
        """
        size = round(self.config.crop_seconds * self.sample_rate)
        low, high = self.config.gain_db
        for _ in range(TRIES):
            place, gain = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
            choose = partial(part, seconds=self.config.crop_seconds, place=place)
            stored = row[self.config.audio_column]
            crop = read_audio(stored, self.sample_rate, choose)[:size]
            if decibels(crop) >= self.config.silence_db:
                crop = crop * 10 ** ((low + (high - low) * gain) / 20)
                return F.pad(crop, (0, size - len(crop))), len(crop)
        raise SilentItemError(f"{self.name(row)} (silent)")

    def label(self, row: Row) -> int:
        """The label of a row, 0 where there are none."""
        return number(row, self.config.label_column, self.classes)

    def speaker(self, row: Row) -> int:
        """The speaker of a row, 0 where there are none."""
        return number(row, self.config.speaker_column, self.speakers)

    def text(self, row: Row) -> str:
        """What is said, empty where that is not known."""
        return str(row[self.config.text_column]) if self.config.text_column else ""

    def name(self, row: Row) -> str:
        """The name of a row's file."""
        return name_of(row[self.config.audio_column])

    def conversions(self) -> str | None:
        """One line that says what decoding changes, None if nothing, by a look at some rows."""
        step = -(-len(self) // LOOKED_AT)
        seen, rates, several = 0, set(), 0
        for index in range(0, len(self), step):
            try:
                with open_audio(self.rows[index][self.config.audio_column]) as file:
                    rates.add(file.samplerate)
                    several += file.channels > 1
                    seen += 1
            except (OSError, TypeError, soundfile.SoundFileError):
                continue  # training counts these
        others = sorted(rates - {self.sample_rate})
        changes = []
        if several:
            changes.append(
                f"{several} of {seen} recordings looked at are mixed down to one channel"
            )
        if others:
            found = " and ".join(map(str, others))
            changes.append(f"recordings at {found} Hz are resampled to {self.sample_rate} Hz")
        return f"{self.config.source}: {', '.join(changes)}" if changes else None


def whole(file: soundfile.SoundFile) -> tuple[int, int]:
    """First sample and number of samples of all of a file."""
    return 0, file.frames


def read_audio(stored: Row | None, sample_rate: int, choose: Part = whole) -> Float[Tensor, " t"]:
    """The samples that `choose(file)` names, mixed down and resampled. Raises BadItemError."""
    if stored is None:
        raise BadItemError(name_of(stored))
    try:
        with open_audio(stored) as file:
            start, count = choose(file)
            file.seek(start)
            samples, rate = file.read(count, dtype="float32", always_2d=True), file.samplerate
    except (OSError, TypeError, ValueError, soundfile.SoundFileError):
        raise BadItemError(name_of(stored)) from None
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise BadItemError(name_of(stored))
    mono = samples.mean(1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
        if len(mono) == 0:  # a few samples at a high rate are none at a low one
            raise BadItemError(name_of(stored))
    return torch.from_numpy(np.ascontiguousarray(mono))


def name_of(stored: Row | None) -> str:
    """The name of a file of audio."""
    return str((stored or {}).get("path") or "a recording without a name")


def open_audio(stored: Row) -> soundfile.SoundFile:
    """The open file of a struct of bytes and path."""
    source: str | BinaryIO = (
        stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"])
    )
    return soundfile.SoundFile(source)


def part(file: soundfile.SoundFile, seconds: float, place: float) -> tuple[int, int]:
    """First sample and number of samples of a crop at `place` in [0, 1) of all that fit."""
    count = -int(-seconds * file.samplerate // 1)
    return int(place * (max(file.frames - count, 0) + 1)), count


def decibels(waveform: Float[Tensor, " t"]) -> float:
    """The root mean square, with a full-scale square wave at 0 dB; silence is -200."""
    return 10 * float(waveform.double().square().mean().clamp_min(1e-20).log10())


def load_clips(config: SpeechDataConfig, split: str, *, sample_rate: int) -> SpeechDataset:
    """The split `train` or `validation` of the config.

    Labels and speakers are numbered as in the training split; those that it lacks come after.
    Raises ValueError, in one sentence, for a source, split or column that is not there.
    """
    rows = load_rows(config, split)
    for key in ("audio_column", "label_column", "speaker_column", "text_column"):
        column = getattr(config, key)
        if column is not None and column not in rows.column_names:
            ways = "" if key == "audio_column" else ", or null for none"
            raise ValueError(
                f"data.{key}={column!r} is not a column of {config.source}: it has "
                f"{', '.join(rows.column_names)}; set data.{key}{ways}"
            )
    if isinstance(rows.features[config.audio_column], datasets.Audio):
        rows = rows.cast_column(config.audio_column, datasets.Audio(decode=False))
    splits = [rows] if split == "train" else [load_rows(config, "train"), rows]
    return SpeechDataset(
        rows,
        config,
        sample_rate,
        names(splits, config.label_column),
        names(splits, config.speaker_column),
        fingerprint(rows, config, split),
    )


def fingerprint(rows: Dataset, config: SpeechDataConfig, split: str) -> str:
    """SHA-256 of where the rows come from, how many there are, and of 64 of them spread over all."""
    digest = hashlib.sha256(f"{config.source} {getattr(config, split)} {len(rows)}".encode())
    for index in range(0, len(rows), max(len(rows) // LOOKED_AT, 1)):
        stored = rows[index][config.audio_column] or {}
        digest.update(stored.get("bytes") or str(stored.get("path")).encode())
    return digest.hexdigest()


def load_rows(config: SpeechDataConfig, split: str) -> Dataset:
    """The rows of a split, as `datasets` gives them."""
    if share := held_out_share(config.validation):
        whole = replace(config, validation=config.train)
        rows = load_rows(whole, "train")
        return part_of(rows, split, share, config.label_column, config.speaker_column)
    if config.source == "spoken_digits":
        return spoken_digits(split)
    where = getattr(config, split)
    try:
        if config.source == "parquet":
            return parquet_rows(where)
        if Path(config.source).is_dir():
            return audio_folder_rows(Path(config.source), where)
        return datasets.load_dataset(config.source, config.subset, split=where)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(
            f"data.source={config.source!r} with data.{split}={where!r} can't be read ({reason}): "
            f"set data.source and data.{split}"
        ) from None


def names(splits: list[Dataset], column: str | None) -> tuple[str, ...]:
    """What the values of a column are called, in the order of their numbers; none for no column.

    The first split's names come first, so that their numbers do not depend on the others.
    """
    if column is None:
        return ()
    feature = splits[0].features[column]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    values = [rows.unique(column) for rows in splits]
    if isinstance(feature, Value) and feature.dtype.startswith(("int", "uint")):
        return tuple(map(str, range(max(map(max, values)) + 1)))
    return tuple(dict.fromkeys(str(value) for part in values for value in sorted(part)))


def number(row: Row, column: str | None, known: tuple[str, ...]) -> int:
    """The number of a row's value, itself or its place among the names that are known."""
    if column is None:
        return 0
    value = row[column]
    return value if isinstance(value, int) else known.index(str(value))
