"""What a data set is: looked at before a recipe is written for it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value
from PIL import Image

from common.extras import Extra
from pipelines.new.splits import HELD_OUT, open_data
from stage1_tokenizer.data import stored_file
from stage1_tokenizer.images.data import in_bytes

soundfile = Extra("soundfile")

LOOKED_AT = 100
"""Items that are opened, spread over the training split."""
LABELS = ("label", "labels", "class", "digit", "category", "target", "fine_label")
SPEAKERS = ("speaker", "speaker_id", "speaker_name")
TEXTS = ("text", "sentence", "transcript", "transcription", "normalized_text")
"""Names of columns; the first one found is used."""
MOST_LABELS = 1000
"""Columns with more values than this, or than a quarter of the items, hold no labels or speakers."""
SHARE, FEWEST = 0.1, 16
"""The share held out where a split is missing; larger if it would be under FEWEST items, but a third at most."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A data set as the block `data:` of a recipe needs it."""

    source: str
    subset: str | None = None
    train: str
    validation: str
    test: str
    column: str
    """Of the images or clips."""
    label_column: str | None
    labels: int
    """How many different ones there are; 0 without."""
    speaker_column: str | None = None
    speakers: int = 0
    text_column: str | None = None
    count: int
    """Training items."""
    bad: int
    """Items that could not be opened, of those looked at."""
    left_out: int = 0
    """Images or clips of a folder that are in no split."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts(Facts):
    sizes: tuple[tuple[int, int], ...]
    """(width, height) of those looked at."""
    grey: bool
    """Whether all of those looked at are."""


@dataclass(frozen=True, kw_only=True)
class SpeechFacts(Facts):
    rates: tuple[int, ...]
    """Samples per second of the clips looked at."""
    seconds: tuple[float, ...]
    """Their lengths."""
    channels: int
    """The most of them."""
    quiet: float
    """Root mean square, in dB of full scale, that nine of ten clips are above."""


def look(data: str) -> ImageFacts | SpeechFacts:
    """The facts of a folder, Parquet files or a data set on the Hub.

    Raises ValueError for a place without images or sound, or one that can't be read.
    """
    source, subset, splits, items, left_out = open_data(data)
    column, modality = item_column(items, data)
    count = len(items)
    label, labels = named_column(items, LABELS)
    speaker, speakers = named_column(items, SPEAKERS) if modality == "speech" else (None, 0)
    texts = [name for name in TEXTS if name in items.column_names and modality == "speech"]
    share = round(min(max(SHARE, FEWEST / count), 0.33), 2)
    common: dict[str, Any] = {
        "source": source,
        "subset": subset,
        **{name: splits.get(name, f"{share:.0%}") for name in ("train", *HELD_OUT)},
        "column": column,
        "label_column": label,
        "labels": labels,
        "speaker_column": speaker,
        "speakers": speakers,
        "text_column": texts[0] if texts else None,
        "left_out": left_out,
        "count": round(count * (1 - share) ** (len(HELD_OUT) + 1 - len(splits))),
    }
    some = list(stored(items, column))
    return image_facts(some, common) if modality == "images" else speech_facts(some, common)


def item_column(items: Dataset, data: str) -> tuple[str, str]:
    """The column of images or sound, and which of the two it holds."""
    for name, feature in items.features.items():
        if isinstance(feature, datasets.Image):
            return name, "images"
        if isinstance(feature, datasets.Audio):
            return name, "speech"
        if isinstance(feature, dict) and {"bytes", "path"} <= feature.keys():
            return name, "images" if any(map(image_of, stored(items, name))) else "speech"
    raise ValueError(f"{data} has no column of images or sound: it has {', '.join(items.features)}")


def named_column(items: Dataset, names: tuple[str, ...]) -> tuple[str | None, int]:
    """The column of labels or speakers and how many there are, where there are several of them."""
    for name in names:
        feature = items.features.get(name)
        if isinstance(feature, ClassLabel) and feature.num_classes > 1:
            return name, feature.num_classes
        if isinstance(feature, Value) and re.match("int|uint|string|large_string", feature.dtype):
            values = set(items[name][:])
            numbers = all(isinstance(value, int) and value >= 0 for value in values)
            whole = numbers or all(isinstance(value, str) and value for value in values)
            if whole and 1 < len(values) <= min(MOST_LABELS, max(len(items) // 4, 2)):
                return name, len(values)
    return None, 0


def stored(items: Dataset, column: str) -> Iterator[dict[str, Any] | None]:
    """The undecoded bytes or paths of some items."""
    feature, items = items.features[column], items.select_columns([column])
    if isinstance(feature, datasets.Image | datasets.Audio):
        items = items.cast_column(column, type(feature)(decode=False))
    for index in range(0, len(items), max(len(items) // LOOKED_AT, 1)):
        yield items[index][column]


def image_of(item: dict[str, Any] | None) -> Image.Image | None:
    """The opened image; None for what is none, or can't be trained on."""
    if item is None:
        return None
    try:
        image = Image.open(stored_file(item))
        in_bytes(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return image


def image_facts(some: list[dict[str, Any] | None], common: dict[str, Any]) -> ImageFacts:
    """Sizes and modes of some images. Raises ValueError where none can be opened."""
    images = [image for item in some if (image := image_of(item)) is not None]
    if not images:
        raise ValueError(
            f"none of {len(some)} images looked at in {common['source']} can be opened"
        )
    grey = all(image.mode in ("1", "L", "LA") or image.mode[0] == "I" for image in images)
    sizes = tuple(image.size for image in images)
    return ImageFacts(**common, bad=len(some) - len(images), sizes=sizes, grey=grey)


def speech_facts(some: list[dict[str, Any] | None], common: dict[str, Any]) -> SpeechFacts:
    """Rates, lengths and loudness of some clips. Raises ValueError where none can be opened."""
    rates, seconds, channels, loudness = [], [], 1, []
    for item in filter(None, some):
        try:
            samples, rate = soundfile.read(stored_file(item), dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError):
            continue
        if not len(samples):
            continue
        rates.append(rate)
        seconds.append(len(samples) / rate)
        channels = max(channels, samples.shape[1])
        loudness.append(20 * np.log10(np.sqrt(np.mean(samples.mean(1) ** 2)) + 1e-10))
    if not rates:
        raise ValueError(f"none of {len(some)} clips looked at in {common['source']} can be opened")
    return SpeechFacts(
        **common,
        bad=len(some) - len(rates),
        rates=tuple(rates),
        seconds=tuple(seconds),
        channels=channels,
        quiet=float(np.quantile(loudness, 0.1)),
    )
