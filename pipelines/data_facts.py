"""What a data set is: looked at before a recipe is written for it."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape, glob
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value
from PIL import Image

from common.extras import Extra
from common.hub import go_offline_if_unreachable
from stage1_tokenizer.images.data import in_bytes
from stage1_tokenizer.parquet import holds_tables, parquet_rows
from stage1_tokenizer.speech.audio_folder import SUFFIXES, audio_folder_rows, files_of

soundfile = Extra("soundfile")

LOOKED_AT = 100
"""Items that are opened, spread over the training split."""
TRAIN = ("train", "training")
HELD_OUT = {
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""Names of the splits; of each the first that is there is taken."""
PART = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?(?=\.parquet$)")
"""Of a name of Parquet files in parts, which of them this one is."""
LABELS = ("label", "labels", "class", "digit", "category", "target", "fine_label")
SPEAKERS = ("speaker", "speaker_id", "speaker_name")
TEXTS = ("text", "sentence", "transcript", "transcription", "normalized_text")
"""Names of columns, the first that is there is taken."""
MOST_LABELS = 1000
"""More values than this, or than a quarter of the items, are no labels."""
SHARE, FEWEST = 0.1, 16
"""The share held out in the place of a split, or so many items where that is fewer, but a third at most."""


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
    """Images of a folder that are in no split."""


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
    source, subset, splits, items, left_out = opened(data)
    column, modality = item_column(items, data)
    count = len(items)
    label, labels = named(items, LABELS)
    speaker, speakers = named(items, SPEAKERS) if modality == "speech" else (None, 0)
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


def opened(data: str) -> tuple[str, str | None, dict[str, str], Dataset, int]:
    """data.source, data.subset, the splits that there are by what they are for, the training items, and how many files
    of a folder are in no split."""
    path = Path(data)
    folders = [place for place in path.iterdir() if place.is_dir()] if path.is_dir() else []
    refuse_capitals(
        path, [*(folder.name for folder in folders), *(p.stem for p in path.glob("*.parquet"))]
    )
    if path.is_file() and path.suffix.lower() in (*SUFFIXES, *Image.registered_extensions()):
        raise ValueError(f"{data} is one item: give the folder that it is in")
    if path.is_file() or glob(data, recursive=True) not in ([], [data]):
        return opened_parquet(data)
    kinds, tables = (SUFFIXES, Image.registered_extensions()), holds_tables(path)
    sounds, images = (0, 0) if tables else (len(files_of(path, kind)) for kind in kinds)
    if sounds > images:
        return opened_sounds(path, [folder.name for folder in folders], sounds)
    try:
        go_offline_if_unreachable()
        if tables:
            subset, found = None, datasets.load_dataset(data)
        elif path.is_dir():
            subset, found = None, datasets.load_dataset("imagefolder", data_dir=data)
        else:
            names = datasets.get_dataset_config_names(data)
            subset = None if len(names) == 1 or "default" in names else names[0]
            found = datasets.load_dataset(data, subset)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        if links := [place for place in folders if place.is_symlink()]:
            reason = f"{links[0]} is a link to a folder, and is not followed: give what it leads to"
        elif path.is_dir() and images == 0:
            there = sorted({file.suffix.lower() for file in path.rglob("*") if file.suffix})
            reason = f"its files are {', '.join(there[:8]) or 'none'}; of sound, {', '.join(SUFFIXES)} are read"
        raise ValueError(
            f"{data} is no folder with images or sound, no file and no data set of the Hub that can be read "
            f"({reason})"
        ) from None
    train = "train" if "train" in found else next(iter(found))
    others = [name for name in found if name != train]
    left_out = images - sum(map(len, found.values())) if path.is_dir() else 0
    return data, subset, {"train": train} | held_out(others), found[train], left_out


def refuse_capitals(path: Path, names: Sequence[str]) -> None:
    """Raises ValueError for folders or files of splits that would not be taken for such, as their names are not in lower case."""
    splits = {*TRAIN, *chain(*HELD_OUT.values())}
    if {name.lower() for name in names} <= splits and not {*names} <= splits:
        raise ValueError(
            f"{path} has {', '.join(sorted(names))}: rename them in lower case, which splits have"
        )


def held_out(there: Sequence[str]) -> dict[str, str]:
    """Which of some names are those of the validation and of the test split."""
    return {
        split: name
        for split, names in HELD_OUT.items()
        if (name := next(filter(there.__contains__, names), None))
    }


def opened_sounds(
    path: Path, names: Sequence[str], count: int
) -> tuple[str, None, dict[str, str], Dataset, int]:
    """The same of a folder of sound. Raises ValueError where held-out clips lie beside training clips without a folder."""
    train = next(filter(names.__contains__, TRAIN), None)
    splits = {"train": train or "train"} | held_out(names)
    if train is None and len(splits) > 1:
        raise ValueError(
            f"{path} has the folders {', '.join(sorted(names))}, and none of training clips: name it train"
        )
    rows = audio_folder_rows(path, splits["train"])
    of_splits = sum(len(files_of(path / name, SUFFIXES)) for name in splits.values())
    return str(path), None, splits, rows, count - of_splits if train else 0


def opened_parquet(data: str) -> tuple[str, None, dict[str, str], Dataset, int]:
    """The same of a Parquet file, or a pattern of such files."""
    splits = parquet_splits(data)
    try:
        items = parquet_rows(splits["train"])
    except (OSError, ValueError) as error:
        raise ValueError(f"{data} can't be read as a Parquet file ({error})") from None
    assert isinstance(items, Dataset)
    return "parquet", None, splits, items, 0


def parquet_splits(data: str) -> dict[str, str]:
    """The Parquet files of each split, by their names; a file in parts, `train-00000-of-00002.parquet`, has all of them."""
    train = Path(PART.sub("-*", escape(data) if Path(data).is_file() else data))
    names = chain(*HELD_OUT.values()) if "train" in train.name else ()
    others = {name: str(train.with_name(train.name.replace("train", name))) for name in names}
    there = held_out([name for name, pattern in others.items() if glob(pattern)])
    return {"train": str(train)} | {split: others[name] for split, name in there.items()}


def item_column(items: Dataset, data: str) -> tuple[str, str]:
    """The column of images or sound, and which of the two it holds."""
    for name, feature in items.features.items():
        if isinstance(feature, datasets.Image):
            return name, "images"
        if isinstance(feature, datasets.Audio):
            return name, "speech"
        if isinstance(feature, dict) and {"bytes", "path"} <= feature.keys():
            first = next(filter(None, stored(items, name)), None)
            return name, "images" if image_of(first) else "speech"
    raise ValueError(f"{data} has no column of images or sound: it has {', '.join(items.features)}")


def named(items: Dataset, names: tuple[str, ...]) -> tuple[str | None, int]:
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
        image = Image.open(item["path"] if item["bytes"] is None else io.BytesIO(item["bytes"]))
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
    grey = all(image.mode in ("1", "L", "LA", "I;16") for image in images)
    sizes = tuple(image.size for image in images)
    return ImageFacts(**common, bad=len(some) - len(images), sizes=sizes, grey=grey)


def speech_facts(some: list[dict[str, Any] | None], common: dict[str, Any]) -> SpeechFacts:
    """Rates, lengths and loudness of some clips. Raises ValueError where none can be opened."""
    rates, seconds, channels, loudness = [], [], 1, []
    for item in filter(None, some):
        try:
            source = item["path"] if item["bytes"] is None else io.BytesIO(item["bytes"])
            samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
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
