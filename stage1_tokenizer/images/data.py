"""Images from the Hub, a folder, Parquet files or scikit-learn's digits, decoded on demand; their views."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from datasets import ClassLabel, Dataset
from jaxtyping import Float
from PIL import Image, ImageOps
from pyarrow import ArrowException
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from common.images import from_uint8
from common.seeding import epoch_order
from stage1_tokenizer.data import (
    BadItemError,
    DataConfig,
    ItemDataset,
    Row,
    Rows,
    fingerprint,
    load_rows,
    refuse_items,
    stored_file,
    with_columns,
)
from stage1_tokenizer.labels import value_names


@dataclass(frozen=True, kw_only=True)
class ImageDataConfig(DataConfig):
    """Where the images are."""

    source: str = "digits"
    """`digits` (scikit-learn's 8 x 8 digits, embedded), `parquet`, a folder of images (subfolders are labels;
    `train`, `validation` and `test` folders are splits), or the name of a data set on the Hub."""
    image_column: str = "image"
    """The column of the images."""


@dataclass(frozen=True, kw_only=True)
class ImageAugmentConfig:
    """How images are varied in training."""

    crop: bool = False
    """Crop at random rather than in the centre."""
    flip: bool = False
    """Mirror half of the images."""


@dataclass(frozen=True)
class ImageDataset(ItemDataset):
    """One split of images."""

    config: ImageDataConfig
    channels: int
    size: int
    """Side of the square views, in pixels."""

    def decode(self, row: Row) -> Image.Image:
        """The image of a row, upright, with `channels` channels. Raises BadItemError."""
        stored = row[self.config.image_column]
        try:
            with Image.open(stored_file(stored)) as image:
                if max(image.size) > LONGEST * min(image.size):
                    raise ValueError("a strip would be enlarged to very many pixels")
                return upright(image, self.channels)
        except Exception:  # of a damaged file Pillow raises any, by its format
            raise BadItemError(
                str((stored or {}).get("path") or "an image without a name")
            ) from None

    def view(self, image: Image.Image) -> Float[Tensor, "c y x"]:
        """The view of an image that is scored, in [-1, 1]."""
        return view(image, self.size, "centre")

    def training_item(
        self, row: Row, generator: torch.Generator, augment: ImageAugmentConfig
    ) -> dict[str, Tensor]:
        """A random view of a row's image, as `images`. Raises BadItemError."""
        image, options = self.decode(row), {"crop": augment.crop, "flip": augment.flip}
        return {"images": augmented(image, self.size, generator, **options)}


def upright(image: Image.Image, channels: int) -> Image.Image:
    """The image turned upright by its EXIF, in grey for one channel and else in colour, over white where transparent.

    Raises ValueError as `in_bytes` does.
    """
    image = in_bytes(turned(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def turned(image: Image.Image) -> Image.Image:
    """A copy of the image as its camera was held; as it is stored, where its EXIF can't be read."""
    kind, image = image.format, image.copy()
    image.format = kind
    # all of the EXIF is read, and written again after the pixels are turned: what is damaged in it is not in them
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def in_bytes(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel: of 16 bits the higher 8. Raises ValueError for pixels without a fixed range."""
    # Pillow opens PNG and PGM of 16 bits in either mode; convert("L") would clip them at 255
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            "an image of 32 bits a channel has no fixed range: save it with 8 or 16 bits a channel"
        )
    return image


def load_images(config: ImageDataConfig, split: str, *, channels: int, size: int) -> ImageDataset:
    """A split of the config: `train`, `validation` or `test`.

    Raises ValueError, in one sentence, for a source, split or column that is not there.
    """
    rows = image_rows(config, split)
    rows = with_columns(rows, config, "image_column", "label_column")
    try:
        rows = rows.cast_column(config.image_column, datasets.Image(decode=False))
    except (ArrowException, TypeError, ValueError):
        refuse_items(config, "image_column", rows.features[config.image_column])
    classes = value_names(
        rows,
        lambda: rows if split == "train" else image_rows(config, "train"),
        config,
        "label_column",
    )
    return ImageDataset(
        rows,
        config,
        classes,
        fingerprint(rows, config, split, config.image_column),
        channels,
        size,
    )


def image_rows(config: ImageDataConfig, split: str) -> Rows:
    """The rows of a split."""

    def read_folder(folder: Path, where: str) -> Dataset:
        return datasets.load_dataset("imagefolder", data_dir=str(folder), split=where)

    embedded = {"digits": digits_rows}
    return load_rows(config, split, embedded, read_folder)


def digits_rows(split: str) -> Dataset:
    """scikit-learn's 1,797 digits as PNG images: 1,437 to train on, 360 held out."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = epoch_order(len(digits.images), seed=0, epoch=0)
    chosen = order[:1437] if split == "train" else order[1437:]
    images = []
    for index in chosen.tolist():
        pixels = torch.from_numpy(digits.images[index]).mul(255 / 16).round().byte()
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, format="PNG")
        images.append({"bytes": buffer.getvalue(), "path": f"digits/{index:04d}.png"})
    features = datasets.Features(
        image=datasets.Image(decode=False), label=ClassLabel(names=[str(n) for n in range(10)])
    )
    labels = digits.target[chosen.numpy()].tolist()
    return Dataset.from_dict({"image": images, "label": labels}, features=features)


LONGEST = 100
"""An image's longer side is at most so many times its shorter one: the shorter one is made as long as a view."""
VIEWS = ("centre", "top-left", "top-right", "bottom-left", "bottom-right")
CROP_SCALE = 1.1
"""Corner views are cut from an image this much larger than the crop."""


def view(image: Image.Image, size: int, name: str) -> Float[Tensor, "c y x"]:
    """One of the `views`."""
    return views(image, size, (name,))[0]


def views(image: Image.Image, size: int, names: Sequence[str]) -> Float[Tensor, "v c y x"]:
    """Fixed views in [-1, 1]: `centre` or a corner, and with `-flip` its mirror image."""
    sides = [size if name.startswith("centre") else round(size * CROP_SCALE) for name in names]
    resized = {side: resize(image, side) for side in set(sides)}
    pairs = zip(sides, names, strict=True)
    return torch.stack([cut_view(resized[side], size, name) for side, name in pairs])


def cut_view(image: Image.Image, size: int, name: str) -> Float[Tensor, "c y x"]:
    """One of the views, of an image that has been resized for it."""
    place = name.removesuffix("-flip")
    free = image.height - size, image.width - size
    top = {"centre": free[0] // 2, "top": 0, "bottom": free[0]}[place.split("-")[0]]
    left = {"centre": free[1] // 2, "left": 0, "right": free[1]}[place.split("-")[-1]]
    return to_tensor(image, top, left, size, flip=name.endswith("-flip"))


def augmented(
    image: Image.Image, size: int, generator: torch.Generator, *, crop: bool, flip: bool
) -> Float[Tensor, "c y x"]:
    """A random view in [-1, 1]: the shorter side resized, then a random or the centre crop, perhaps mirrored."""
    image = resize(image, size)
    where = torch.rand(3, generator=generator)
    free = image.height - size, image.width - size
    top, left = free[0] // 2, free[1] // 2  # as in `cut_view`
    if crop:
        top, left = round(where[0].item() * free[0]), round(where[1].item() * free[1])
    return to_tensor(image, top, left, size, flip=flip and bool(where[2] < 0.5))


def resize(image: Image.Image, size: int) -> Image.Image:
    """The image with its shorter side of `size` pixels (bilinear, antialiased)."""
    shorter = min(image.size)
    if shorter == size:
        return image
    width, height = (max(round(side * size / shorter), size) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def to_tensor(
    image: Image.Image, top: int, left: int, size: int, *, flip: bool
) -> Float[Tensor, "c y x"]:
    """A square of the image in [-1, 1], perhaps mirrored."""
    square = image.crop((left, top, left + size, top + size))
    pixels = from_uint8(TF.pil_to_tensor(square))
    return pixels.flip(-1) if flip else pixels
