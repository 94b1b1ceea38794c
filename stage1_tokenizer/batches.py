"""Batches of training pictures, a function of the seed and of how many items went before."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from datasets import IterableDataset
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset as TorchIterableDataset

from common.seeding import EndlessSampler, generator_at
from stage1_tokenizer.images.data import SPARE, BadItemError, ImageDataset, Row, augmented

Item = dict[str, Any]
BAD_LIMIT = 0.01
"""The share of an epoch's items that may be undecodable."""


class BadItems:
    """Counts the items that could not be decoded, and stops the run when an epoch has over 1 % of them."""

    def __init__(self, epoch_size: float | None) -> None:
        self.epoch_size = epoch_size
        self.epoch = self.in_epoch = self.seen = self.total = 0
        self.first = ""

    def count(self, names: list[str], epoch: int, items: int) -> None:
        """Takes in one batch of `items`; raises ValueError with the count and the first item's name."""
        if epoch != self.epoch:
            self.epoch, self.in_epoch, self.seen = epoch, 0, 0
        self.first = self.first or next(iter(names), "")
        self.in_epoch += len(names)
        self.total += len(names)
        self.seen += items
        size = self.epoch_size or max(self.seen, 1000)
        if self.in_epoch > BAD_LIMIT * size:
            raise ValueError(
                f"{self.in_epoch} items of an epoch of {size:.0f} can't be decoded, over {BAD_LIMIT:.0%}; "
                f"the first is {self.first}: mend or remove them, or set data.source"
            )


def training_item(
    pictures: ImageDataset,
    position: int,
    epoch: int,
    rows: Iterator[Row],
    seed: int,
    augment: dict[str, bool],
) -> Item:
    """The first decodable picture of `rows`, augmented as its position says, and the names of bad ones."""
    bad: list[str] = []
    for row in islice(rows, SPARE + 1):
        try:
            picture = pictures.decode(row)
        except BadItemError as error:
            bad.append(str(error))
            continue
        generator = generator_at(seed, position)
        image = augmented(picture, pictures.size, generator, **augment)
        return {"image": image, "label": pictures.label(row), "epoch": epoch, "bad": bad}
    raise ValueError(
        f"{len(bad)} pictures in a row can't be decoded, the first is {bad[0]}: mend or remove them"
    )


class _Indexed(TorchDataset[Item]):
    def __init__(self, pictures: ImageDataset, seed: int, augment: dict[str, bool]) -> None:
        self.pictures, self.seed, self.augment = pictures, seed, augment

    def __getitem__(self, key: tuple[int, int]) -> Item:
        position, index = key
        size = len(self.pictures)
        rows = (self.pictures[(index + i) % size] for i in range(size))
        return training_item(
            self.pictures, position, position // size, rows, self.seed, self.augment
        )


class _Streamed(TorchIterableDataset[Item]):
    def __init__(
        self, pictures: ImageDataset, seed: int, augment: dict[str, bool], start: int, step: int
    ) -> None:
        self.pictures, self.seed, self.augment = pictures, seed, augment
        self.start, self.step = start, step

    def __iter__(self) -> Iterator[Item]:
        for position, epoch, rows in self.pictures.stream(self.seed, self.start, self.step):
            yield training_item(self.pictures, position, epoch, iter(rows), self.seed, self.augment)


def collate(items: list[Item]) -> dict[str, Any]:
    """Stacked images and labels, the last item's epoch, and all bad names."""
    return {
        "images": torch.stack([item["image"] for item in items]),
        "labels": torch.tensor([item["label"] for item in items]),
        "epoch": items[-1]["epoch"],
        "bad": [name for item in items for name in item["bad"]],
    }


def training_batches(
    pictures: ImageDataset,
    *,
    batch_size: int,
    seed: int,
    done: int,
    rank: int,
    world: int,
    workers: int,
    augment: dict[str, bool],
) -> Iterator[dict[str, Any]]:
    """Endless batches of this process, after `done` items of all processes. `batch_size` is over all."""
    share = batch_size // world
    sampler: EndlessSampler | None = None
    items: TorchDataset[Item]
    if isinstance(pictures.rows, IterableDataset):
        items = _Streamed(pictures, seed, augment, done + rank, world)
        workers = 0  # in a worker process `datasets` would share the stream out by its files
    else:
        items = _Indexed(pictures, seed, augment)
        sampler = EndlessSampler(len(pictures), seed=seed, start=done, rank=rank, world=world)
    return iter(
        DataLoader(
            items,
            share,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
        )
    )
