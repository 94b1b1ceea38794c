"""Batches of training items, a function of the seed and of how many items went before."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from datasets import IterableDataset
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset as TorchIterableDataset

from common.processes import gather_over_processes, process_index, sum_over_processes
from common.seeding import EndlessSampler, generator_at
from stage1_tokenizer.data import BadItemError, ItemDataset, Row, UnfitItemError

Item = dict[str, Any]
Batch = dict[str, Any]
LoadItem = Callable[[Row, torch.Generator], Item]
"""A row's item, decoded and augmented as the generator says; its values are tensors of one shape, or integers."""
BAD_LIMIT = 0.01
"""The share of an epoch's items that may be undecodable; a single item always may."""
SPARE = 8
"""How many other items are tried in place of one that can't be trained on."""


class BadItems:
    """Counts items that can't be decoded, and stops the run if they are over 1 % of an epoch and more than one.

    An item counts again in each epoch. Unfit items are counted separately, and never stop the run.
    """

    def __init__(self, epoch_size: int | None) -> None:
        self.epoch_size = epoch_size
        """Items of an epoch; None for a stream."""
        self.epoch = self.in_epoch = self.seen = 0
        self.first = ""
        self.own, self.before = torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long)
        """Numbers of bad and unfit items: of this process since the last `totals`, and of all processes before it."""
        self.together = {"epoch": 0, "in_epoch": 0, "seen": 0}
        """The counts of the epoch over all processes, at the last `totals`."""

    def count(self, bad: dict[int, list[str]], epoch: int, items: int, unfit: int = 0) -> None:
        """Takes in a batch of `items` that ends in `epoch`, and the names of bad ones by their epochs.

        Raises ValueError, with the count and the first item's name, where this process alone has met too many.
        """
        for each in sorted({*bad, epoch}):
            if each != self.epoch:
                self.epoch, self.in_epoch, self.seen = each, 0, 0
            names = bad.get(each, [])
            self.first = self.first or next(iter(names), "")
            self.in_epoch += len(names)
            self.own[0] += len(names)
            self.refuse_too_many(self.in_epoch, self.seen + items)
        self.own[1] += unfit
        self.seen += items

    def refuse_too_many(self, in_epoch: int, seen: int) -> None:
        """Raises ValueError for so many bad items in an epoch of which so many items were seen."""
        size = self.epoch_size or max(seen, 1000)
        if in_epoch > max(BAD_LIMIT * size, 1):
            raise ValueError(
                f"{in_epoch} items of an epoch of {size:.0f} can't be decoded, over {BAD_LIMIT:.0%}"
                + (f"; the first is {self.first}" if self.first else "")
                + ": fix or remove them, or set data.source"
            )

    def totals(self, device: torch.device) -> list[int]:
        """The numbers of bad and of unfit items in all processes, which must call this together.

        Raises ValueError, on all of them, where they have met too many in the epoch.
        """
        self.before += sum_over_processes(self.own.to(device)).cpu()
        self.own.zero_()
        mine = torch.tensor([[self.epoch, self.in_epoch, self.seen]], device=device)
        counts = gather_over_processes(mine).cpu()
        latest = counts[counts[:, 0] == counts[:, 0].max()]  # one may have begun the next epoch
        in_epoch, seen = latest[:, 1:].sum(0).tolist()
        self.together = {"epoch": int(latest[0, 0]), "in_epoch": in_epoch, "seen": seen}
        self.refuse_too_many(in_epoch, seen)
        return self.before.tolist()

    def state_dict(self) -> dict[str, Any]:
        """The counts of all processes, to be saved right after `totals`."""
        return {**self.together, "first": self.first, "before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the counts; those of the epoch are the first process's, for they are summed up again."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        if process_index():
            self.in_epoch = self.seen = 0


def bad_items_of(dataset: ItemDataset) -> BadItems:
    """A counter of a data set's bad items."""
    return BadItems(None if dataset.is_stream else len(dataset))


def first_usable_item(
    rows: Iterable[Row], load: LoadItem, seed: int, position: int, epoch: int
) -> Item:
    """The first of `rows` that can be trained on, with the names of undecodable rows before it and how many were unfit.

    `position`, its place in the endless stream of training items, and the seed decide its augmentation. Raises
    ValueError if no row can be trained on.
    """
    bad: list[str] = []
    tried = unfit = 0
    for row in rows:
        tried += 1
        try:
            item = load(row, generator_at(seed, position))
            return item | {"epoch": epoch, "bad": bad, "unfit": unfit}
        except UnfitItemError as error:
            last = str(error)
            unfit += 1
        except BadItemError as error:
            last = str(error)
            bad.append(last)
    raise ValueError(
        f"{tried} items tried one after another can't be trained on, the last is {last}: fix or remove them"
    )


class IndexedItems(TorchDataset[Item]):
    """Items by key (position in the endless stream, row index); the position decides the augmentation.

    An item that can't be trained on is replaced by one far away, because neighbours are often alike.
    """

    def __init__(self, dataset: ItemDataset, load: LoadItem, seed: int) -> None:
        self.dataset, self.load, self.seed = dataset, load, seed

    def __getitem__(self, key: tuple[int, int]) -> Item:
        position, index = key
        size = len(self.dataset)
        tries = min(SPARE + 1, size)
        rows = (self.dataset[(index + i * size // tries) % size] for i in range(tries))
        return first_usable_item(rows, self.load, self.seed, position, position // size)


class StreamedItems(TorchIterableDataset[Item]):
    """Every `step`-th item of a stream, from position `start`."""

    def __init__(
        self, dataset: ItemDataset, load: LoadItem, seed: int, start: int, step: int
    ) -> None:
        self.dataset, self.load, self.seed = dataset, load, seed
        self.start, self.step = start, step

    def __iter__(self) -> Iterator[Item]:
        for position, epoch, rows in streamed_rows(self.dataset, self.seed, self.start, self.step):
            yield first_usable_item(rows, self.load, self.seed, position, epoch)


def streamed_rows(
    dataset: ItemDataset, seed: int, start: int, step: int
) -> Iterator[tuple[int, int, list[Row]]]:
    """(position, epoch, rows) of every `step`-th item of endless epochs, from position `start`.

    The order is a function of the seed alone. The first of the rows is the item; the rows after it,
    and at the end of an epoch those before it, stand in for it, should it be bad. Raises ValueError for a stream
    without items.
    """
    assert isinstance(dataset.rows, IterableDataset)
    position = 0
    for epoch in itertools.count():
        shuffled = dataset.rows.shuffle(seed=seed, buffer_size=dataset.config.shuffle_buffer)
        shuffled.set_epoch(epoch)
        rows = iter(shuffled)
        window = deque(itertools.islice(rows, 1 + SPARE))
        passed: deque[Row] = deque(maxlen=SPARE)
        if not window:
            raise ValueError("the stream to train on has no items: set data.train")
        while window:
            if position >= start and (position - start) % step == 0:
                yield position, epoch, [*window, *passed][: 1 + SPARE]
            passed.append(window.popleft())
            window.extend(itertools.islice(rows, 1))
            position += 1


def collate(items: list[Item]) -> Batch:
    """The items' values stacked, the last one's epoch, names of bad items by epoch, and the number of unfit ones."""
    about = ("epoch", "bad", "unfit")
    values = [{k: v for k, v in item.items() if k not in about} for item in items]
    bad: dict[int, list[str]] = {}
    for item in items:
        bad.setdefault(item["epoch"], []).extend(item["bad"])
    unfit = sum(item["unfit"] for item in items)
    return default_collate(values) | {"epoch": items[-1]["epoch"], "bad": bad, "unfit": unfit}


def item_loader(
    dataset: ItemDataset,
    load: LoadItem,
    *,
    batch_size: int,
    seed: int,
    done: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> DataLoader[Item]:
    """Endless batches of this process, after `done` items of all processes. `batch_size` is over all."""
    sampler: EndlessSampler | None = None
    items: TorchDataset[Item]
    if dataset.is_stream:
        items = StreamedItems(dataset, load, seed, done + rank, world)
        workers = 0  # in a worker process `datasets` would share the stream out by its files
    else:
        items = IndexedItems(dataset, load, seed)
        sampler = EndlessSampler(len(dataset), seed=seed, start=done, rank=rank, world=world)
    return DataLoader(
        items,
        batch_size // world,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def training_batches(
    dataset: ItemDataset, load: LoadItem, accelerator: Accelerator, **settings: int
) -> Iterator[Batch]:
    """The batches of `item_loader` for this process, their tensors on its device."""
    place = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    for batch in item_loader(dataset, load, **settings, **place):
        yield {
            name: value.to(accelerator.device, non_blocking=True)
            if isinstance(value, Tensor)
            else value
            for name, value in batch.items()
        }
