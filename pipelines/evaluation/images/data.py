"""ImageDataset to be scored, in order and in batches of bytes: of a data set's split, or of samples.npz."""

import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from datasets import IterableDataset
from jaxtyping import Int, UInt8
from torch import Tensor

from common.figures import to_uint8
from common.seeding import epoch_order
from stage1_tokenizer.images.data import BadItemError, ImageDataset, view


@dataclass(frozen=True)
class Batch:
    """ImageDataset, where they stand in their source, and their labels."""

    images: UInt8[Tensor, "b c y x"]
    indices: Int[Tensor, " b"]
    labels: Int[Tensor, " b"]


def picture_batches(
    pictures: ImageDataset, batch_size: int, wanted: set[int] | None = None
) -> Iterator[Batch]:
    """The centre view of every picture, or of the `wanted` ones; those that can't be decoded are left out."""
    rows = ((i, row) for i, row in enumerate(pictures.rows) if wanted is None or i in wanted)
    while chunk := list(itertools.islice(rows, batch_size)):
        images, indices, labels = [], [], []
        for index, row in chunk:
            try:
                images.append(view(pictures.decode(row), pictures.size, "centre"))
            except BadItemError:
                continue
            indices.append(index)
            labels.append(pictures.label(row))
        if images:
            yield Batch(to_uint8(torch.stack(images)), torch.tensor(indices), torch.tensor(labels))


def limited(pictures: ImageDataset, count: int | None, seed: int) -> ImageDataset:
    """`count` of the pictures, chosen at random by the seed; all of them for None."""
    if count is None:
        return pictures
    rows = pictures.rows
    if isinstance(rows, IterableDataset):
        chosen = rows.shuffle(seed=seed, buffer_size=pictures.config.shuffle_buffer).take(count)
    else:
        chosen = rows.select(sorted(epoch_order(len(rows), seed, epoch=0)[:count].tolist()))
    return replace(pictures, rows=chosen, fingerprint=f"{pictures.fingerprint}:{count}:{seed}")


@dataclass(frozen=True)
class SampledImages:
    """The array of a samples.npz, read in pieces: 50,000 pictures need not fit in memory."""

    path: Path
    labels: tuple[int, ...] | None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """ImageDataset, rows, columns and channels."""
        with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
            return read_header(file, self.path)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Every picture, in order."""
        with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
            count, *shape = read_header(file, self.path)
            for start in range(0, count, batch_size):
                size = min(batch_size, count - start)
                pixels = np.frombuffer(file.read(size * int(np.prod(shape))), np.uint8)
                images = torch.from_numpy(pixels.reshape(size, *shape).copy()).permute(0, 3, 1, 2)
                indices = torch.arange(start, start + size)
                labels = self.labels[start : start + size] if self.labels else [0] * size
                yield Batch(images.contiguous(), indices, torch.tensor(labels))


def read_header(file, path: Path) -> tuple[int, int, int, int]:  # type: ignore[no-untyped-def]
    """The shape of the array that follows in the open `file`. Raises ValueError for another kind of array."""
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] not in (1, 3) or shape[0] < 4:
        raise ValueError(
            f"{path} holds a {dtype} array of shape {shape}: scoring needs uint8 pictures (N, height, width, "
            "1 or 3), at least 4 of them; set samples"
        )
    return shape


def pick(batches: Iterator[Batch], wanted: list[int]) -> UInt8[Tensor, "b c y x"]:
    """The pictures at the places `wanted`, in that order."""
    found: dict[int, Tensor] = {}
    for batch in batches:
        places = zip(batch.indices.tolist(), batch.images, strict=True)
        found.update({index: image for index, image in places if index in wanted})
        if len(found) == len(set(wanted)):
            break
    return torch.stack([found[index] for index in wanted])
