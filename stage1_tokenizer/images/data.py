"""Labelled pictures from the Hub, a folder, Parquet files or scikit-learn's digits, decoded on demand."""

import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import ClassLabel, Dataset, IterableDataset, Value
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from common.seeding import epoch_order
from stage1_tokenizer.parquet import parquet_rows
from stage1_tokenizer.split import held_out_share, part_of

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ImageDataConfig:
    """Where the pictures are."""

    source: str = "digits"
    """`digits` (scikit-learn's 8 x 8 digits, embedded), `parquet`, a folder of pictures (subfolders are labels;
    `train` and `validation` folders are splits), or the name of a data set on the Hub."""
    subset: str | None = None
    """The configuration of a Hub data set that has several."""
    train: str = "train"
    """The split to train on, for instance `train[:95%]`; for `parquet` a file or a pattern, with or
    without a slice."""
    validation: str = "validation"
    """The held-out split, or file; `10%` holds out that share of each label's training items."""
    image_column: str = "image"
    label_column: str | None = "label"
    """null where the pictures have no labels."""
    streaming: bool = False
    """Read a Hub data set or Parquet files as a stream, without a copy on disk."""
    shuffle_buffer: int = 10_000
    """Items among which a stream is shuffled."""


class BadItemError(ValueError):
    """One item could not be decoded; the message is its name."""


@dataclass(frozen=True)
class ImageDataset:
    """One split: rows with undecoded pictures, and what its labels are called."""

    rows: Dataset | IterableDataset
    config: ImageDataConfig
    channels: int
    size: int
    classes: tuple[str, ...]
    """Names of the labels; empty for pictures without."""
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]  # type: ignore[index]

    def decode(self, row: Row) -> Image.Image:
        """The picture of a row, upright, in the right number of channels. Raises BadItemError."""
        stored = row[self.config.image_column]
        try:
            source = stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"])
            with Image.open(source) as picture:
                upright = ImageOps.exif_transpose(picture)
                return upright.convert("L" if self.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
            raise BadItemError(
                str((stored or {}).get("path") or "a picture without a name")
            ) from None

    def label(self, row: Row) -> int:
        """The label of a row, 0 where there are none."""
        column = self.config.label_column
        return int(row[column]) if column is not None else 0

    def fixed(self, picture: Image.Image, name: str = "centre") -> Float[Tensor, "c y x"]:
        """A fixed view of a picture, in [-1, 1]: as it is scored, `centre`."""
        return view(picture, self.size, name)

    def stream(self, seed: int, start: int, step: int) -> Iterator[tuple[int, int, list[Row]]]:
        """(position, epoch, rows) of every `step`-th item of endless epochs, from position `start`.

        The order is a function of the seed alone. The first of the rows is the item; the rows after it
        stand in for it, should it be bad.
        """
        assert isinstance(self.rows, IterableDataset)
        position = 0
        for epoch in itertools.count():
            shuffled = self.rows.shuffle(seed=seed, buffer_size=self.config.shuffle_buffer)
            shuffled.set_epoch(epoch)
            window: list[Row] = []
            for row in itertools.chain(shuffled, [None] * SPARE):
                window.extend([row] if row else [])
                if row and len(window) <= SPARE:
                    continue
                if window and position >= start and (position - start) % step == 0:
                    yield position, epoch, list(window)
                if window:
                    window.pop(0)
                    position += 1


SPARE = 8
"""Rows that stand ready, in a stream, to take the place of a bad one."""


def load_images(config: ImageDataConfig, split: str, *, channels: int, size: int) -> ImageDataset:
    """The split `train` or `validation` of the config.

    Raises ValueError, in one sentence, for a source, split or column that is not there.
    """
    rows = load_rows(config, getattr(config, split), split)
    columns = list(rows.features or {})
    for key, column in (
        ("image_column", config.image_column),
        ("label_column", config.label_column),
    ):
        if column is not None and column not in columns:
            raise ValueError(
                f"data.{key}={column!r} is not a column of {config.source}: it has "
                f"{', '.join(columns)}; set data.{key}"
            )
    rows = rows.cast_column(config.image_column, datasets.Image(decode=False))
    rows, classes = with_labels(rows, config)
    return ImageDataset(rows, config, channels, size, classes, fingerprint(rows, config, split))


def fingerprint(rows: Dataset | IterableDataset, config: ImageDataConfig, split: str) -> str:
    """SHA-256 of where the rows come from, how many there are, and of 64 of them spread over all."""
    digest = hashlib.sha256(f"{config.source} {getattr(config, split)}".encode())
    if isinstance(rows, Dataset):
        digest.update(str(len(rows)).encode())
        for index in range(0, len(rows), max(len(rows) // 64, 1)):
            digest.update((rows[index][config.image_column] or {}).get("bytes") or b"")
    return digest.hexdigest()


def load_rows(config: ImageDataConfig, where: str, split: str) -> Dataset | IterableDataset:
    """The rows of a split, as `datasets` gives them."""
    if share := held_out_share(config.validation):
        whole = replace(config, validation=config.train)
        return part_of(load_rows(whole, config.train, "train"), split, share, config.label_column)
    if config.source == "digits":
        return digits_rows(split)
    try:
        if config.source == "parquet":
            return parquet_rows(where, streaming=config.streaming)
        if Path(config.source).is_dir():
            return datasets.load_dataset("imagefolder", data_dir=config.source, split=where)
        return datasets.load_dataset(
            config.source, config.subset, split=where, streaming=config.streaming
        )
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(
            f"data.source={config.source!r} with data.{split}={where!r} can't be read ({reason}): "
            f"set data.source and data.{split}"
        ) from None


def with_labels(
    rows: Dataset | IterableDataset, config: ImageDataConfig
) -> tuple[Dataset | IterableDataset, tuple[str, ...]]:
    """The rows with integer labels, and the labels' names."""
    if config.label_column is None:
        return rows, ()
    feature = rows.features[config.label_column]
    if isinstance(feature, ClassLabel):
        return rows, tuple(feature.names)
    if isinstance(rows, IterableDataset):
        raise ValueError(
            f"data.label_column={config.label_column!r} of a stream must be a ClassLabel, not {feature}: "
            "set data.streaming=false or data.label_column=null"
        )
    if isinstance(feature, Value) and feature.dtype.startswith(("int", "uint")):
        return rows, tuple(map(str, range(max(rows[config.label_column]) + 1)))
    rows = rows.class_encode_column(config.label_column)
    return rows, tuple(rows.features[config.label_column].names)


def digits_rows(split: str) -> Dataset:
    """scikit-learn's 1,797 digits as PNG pictures: 1,437 to train on, 360 held out."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = epoch_order(len(digits.images), seed=0, epoch=0)
    chosen = order[:1437] if split == "train" else order[1437:]
    pictures = []
    for index in chosen.tolist():
        pixels = torch.from_numpy(digits.images[index]).mul(255 / 16).round().byte()
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, format="PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": f"digits/{index:04d}.png"})
    features = datasets.Features(
        image=datasets.Image(decode=False), label=ClassLabel(names=[str(n) for n in range(10)])
    )
    labels = digits.target[chosen.numpy()].tolist()
    return Dataset.from_dict({"image": pictures, "label": labels}, features=features)


VIEWS = ("centre", "top-left", "top-right", "bottom-left", "bottom-right")
CROP_SCALE = 1.1
"""Corner views are cut from a picture this much larger than the crop."""


def view(picture: Image.Image, size: int, name: str) -> Float[Tensor, "c y x"]:
    """A fixed view in [-1, 1]: `centre` or a corner, and with `-flip` its mirror image."""
    place = name.removesuffix("-flip")
    picture = resize(picture, size if place == "centre" else round(size * CROP_SCALE))
    free = picture.height - size, picture.width - size
    top = {"centre": free[0] // 2, "top": 0, "bottom": free[0]}[place.split("-")[0]]
    left = {"centre": free[1] // 2, "left": 0, "right": free[1]}[place.split("-")[-1]]
    return to_tensor(picture, top, left, size, flip=name.endswith("-flip"))


def augmented(
    picture: Image.Image, size: int, generator: torch.Generator, *, crop: bool, flip: bool
) -> Float[Tensor, "c y x"]:
    """A random view in [-1, 1]: the shorter side resized, then a random or the centre crop, perhaps mirrored."""
    picture = resize(picture, size)
    where = torch.rand(3, generator=generator)
    y, x = (where[:2] if crop else torch.tensor([0.5, 0.5])).tolist()
    top, left = round(y * (picture.height - size)), round(x * (picture.width - size))
    return to_tensor(picture, top, left, size, flip=flip and bool(where[2] < 0.5))


def resize(picture: Image.Image, size: int) -> Image.Image:
    """The picture with its shorter side of `size` pixels (bilinear, antialiased)."""
    shorter = min(picture.size)
    if shorter == size:
        return picture
    width, height = (max(round(side * size / shorter), size) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def to_tensor(
    picture: Image.Image, top: int, left: int, size: int, *, flip: bool
) -> Float[Tensor, "c y x"]:
    """A square of the picture in [-1, 1], perhaps mirrored."""
    square = picture.crop((left, top, left + size, top + size))
    pixels = TF.pil_to_tensor(square).float() / 127.5 - 1
    return pixels.flip(-1) if flip else pixels
