"""Images to be scored, in order and in batches of bytes: of a data set's split, or of samples.npz."""

import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from common.images import to_uint8
from stage1_tokenizer.data import BadItemError
from stage1_tokenizer.images.data import ImageDataset, view

FEWEST_IMAGES = 4
"""Samples that a score takes at the least."""


@dataclass(frozen=True)
class Batch:
    """Images, where they stand in their source, and their labels."""

    images: UInt8[Tensor, "b c y x"]
    indices: Int[Tensor, " b"]
    labels: Int[Tensor, " b"]


def image_batches(
    dataset: ImageDataset, batch_size: int, wanted: set[int] | None = None
) -> Iterator[Batch]:
    """The centre view of every image, or of the `wanted` ones; those that can't be decoded are left out."""
    items = ((i, item) for i, item in enumerate(dataset.rows) if wanted is None or i in wanted)
    while chunk := list(itertools.islice(items, batch_size)):
        images, indices, labels = [], [], []
        for index, item in chunk:
            try:
                images.append(view(dataset.decode(item), dataset.size, "centre"))
            except BadItemError:
                continue
            indices.append(index)
            labels.append(dataset.label(item))
        if images:
            yield Batch(to_uint8(torch.stack(images)), torch.tensor(indices), torch.tensor(labels))


@dataclass(frozen=True)
class SampledImages:
    """The array of a samples.npz, read in pieces: 50,000 images need not fit in memory."""

    path: Path
    labels: tuple[int, ...] | None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, height, width and channels."""
        with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
            return read_header(file, self.path)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Every image, in order."""
        with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
            count, *shape = read_header(file, self.path)
            for start in range(0, count, batch_size):
                size = min(batch_size, count - start)
                pixels = np.frombuffer(file.read(size * int(np.prod(shape))), np.uint8)
                images = torch.from_numpy(pixels.reshape(size, *shape).copy()).permute(0, 3, 1, 2)
                indices = torch.arange(start, start + size)
                labels = self.labels[start : start + size] if self.labels else [0] * size
                yield Batch(images.contiguous(), indices, torch.tensor(labels))


def sampled_images(
    folder: Path, sampling: dict[str, Any], shape: tuple[int, int, int]
) -> SampledImages:
    """The samples that sample.json describes. Raises ValueError for another shape or number of labels.

    `shape` is the tokenizer's, (height, width, channels).
    """
    labels = sampling["labels"]
    images = SampledImages(folder / "samples.npz", labels and tuple(labels))
    try:
        count, *own = images.shape
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{images.path} holds no samples ({error}): sample again") from None
    if own != [*shape]:
        raise ValueError(
            f"samples={folder} has images of {own} (height, width, channels), the tokenizer was "
            f"trained on {[*shape]}: set tokenizer or samples"
        )
    if labels is not None and len(labels) != count:
        raise ValueError(
            f"samples={folder} has {count} images and {len(labels)} labels: run `simvq sample` again"
        )
    return images


def read_header(file, path: Path) -> tuple[int, int, int, int]:  # type: ignore[no-untyped-def]
    """The shape of the array that follows in the open `file`. Raises ValueError for another kind of array."""
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] not in (1, 3):
        raise ValueError(
            f"{path} holds a {dtype} array of shape {shape}: scoring needs uint8 images (N, height, width, "
            "1 or 3): set samples"
        )
    if shape[0] < FEWEST_IMAGES:
        raise ValueError(
            f"{path} holds {shape[0]} images, and a score takes at least {FEWEST_IMAGES}: set samples.count, and samples.out "
            "to another folder"
        )
    return shape


def select(batches: Iterator[Batch], wanted: list[int]) -> UInt8[Tensor, "b c y x"]:
    """The images at the places `wanted`, in that order."""
    images: dict[int, Tensor] = {}
    for batch in batches:
        places = zip(batch.indices.tolist(), batch.images, strict=True)
        images.update({index: image for index, image in places if index in wanted})
        if len(images) == len(set(wanted)):
            break
    return torch.stack([images[index] for index in wanted])
