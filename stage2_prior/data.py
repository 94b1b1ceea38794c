"""Batches of conditions and codes, a function of the seed and of how many items went before."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import BatchSampler, DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from common.codes import code_lengths
from common.seeding import EndlessSampler, epoch_order, generator_at
from stage2_prior.model import IGNORED, Prior
from stage2_prior.orders import random_order, random_share

Batch = tuple[Tensor, ...]
"""Conditions (b, p) and codes (b, n), int64; where orders are learned, the places of the codes too."""
BLOCK = 16
"""Batches whose items are sorted by length before they are cut into batches."""


class CodeDataset(TorchDataset[Batch]):
    """Sequences of codes with their conditions; a condition is withheld with probability `drop`, by seed and position.

    `all_items` is the number of items of a whole training, over which the share in random order changes; with 0,
    none are in random order.
    """

    def __init__(
        self, items: Dataset, prior: Prior, drop: float, seed: int, all_items: int = 0
    ) -> None:
        columns = {"label": "labels", "speaker": "speakers", "text": "texts"}
        given = {columns[name]: items[name][:] for name in prior.config.parts}
        self.conditions = prior.conditions(len(items), **given)
        self.no_condition = torch.tensor(prior.config.no_condition)
        self.items = items.select_columns(["codes"]).with_format("numpy")
        self.lengths: Tensor | None = None
        """Codes of each item where sequences end; else all have as many."""
        self.mean_codes: float = prior.config.length
        if prior.config.ends:
            self.lengths = torch.from_numpy(code_lengths(items).astype(np.int64))
            self.mean_codes = float(self.lengths.float().mean())
        self.drop, self.seed = drop, seed
        self.config, self.all_items = prior.config, all_items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, keys: list[tuple[int, int]]) -> Batch:
        """The items of (position, index) keys as one batch, padded on the right with IGNORED."""
        indices = [index for _, index in keys]
        codes = [torch.from_numpy(c.astype(np.int64)) for c in self.items[indices]["codes"]]
        generators = [generator_at(self.seed, position) for position, _ in keys]
        kept = torch.stack([torch.rand((), generator=g) for g in generators]) >= self.drop
        conditions = self.conditions[indices].where(kept[:, None], self.no_condition)
        padded = pad_sequence(codes, batch_first=True, padding_value=IGNORED)
        if not self.all_items or self.config.order == "raster":
            return conditions, padded
        order = self.orders([position for position, _ in keys], generators, list(map(len, codes)))
        return conditions, padded.gather(1, order[:, : padded.shape[1]]), order

    def orders(
        self, positions: list[int], generators: list[torch.Generator], lengths: list[int]
    ) -> Tensor:
        """The places of each item's codes, (b, n + levels), in random order for a share of the items; the rest in raster order."""
        levels = self.config.levels
        longest = max(lengths) + levels
        orders = []
        for position, generator, length in zip(positions, generators, lengths, strict=True):
            share = random_share(self.config.order, position / self.all_items)
            shuffled = float(torch.rand((), generator=generator)) < share
            orders.append(random_order(length if shuffled else 0, levels, longest, generator))
        return torch.stack(orders)

    def sampler(
        self, *, batch_size: int, start: int, rank: int, world: int
    ) -> Sampler[tuple[int, int]]:
        """This process's share of shuffled epochs; if lengths differ, each batch has items of similar length."""
        if self.lengths is None:
            return EndlessSampler(len(self), seed=self.seed, start=start, rank=rank, world=world)
        return BucketSampler(
            self.lengths, batch_size, seed=self.seed, start=start, rank=rank, world=world
        )


class BucketSampler(Sampler[tuple[int, int]]):
    """Yields (position, index) like EndlessSampler, but groups items of similar length within blocks of batches.

    A block's items are sorted by length and cut into batches, which come in random order. The order
    is a function of seed and position, so that a stopped run goes on exactly where it was.
    """

    def __init__(
        self, lengths: Tensor, batch_size: int, *, seed: int, start: int, rank: int, world: int
    ) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        size = self.batch_size * BLOCK
        block, skipped = divmod(self.start, size)
        stream = iter(EndlessSampler(len(self.lengths), seed=self.seed, start=block * size))
        while True:
            indices = torch.tensor([index for _, index in islice(stream, size)])
            batches = indices[self.lengths[indices].argsort(stable=True)].view(BLOCK, -1)
            order = batches[epoch_order(BLOCK, self.seed, block)].flatten().tolist()
            for place in range(skipped + self.rank, size, self.world):
                yield block * size + place, order[place]
            block, skipped = block + 1, 0


def training_batches(
    items: CodeDataset,
    *,
    batch_size: int,
    done: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Endless batches of this process, after the first `done` items; both numbers are over all processes."""
    sampler = items.sampler(batch_size=batch_size, start=done, rank=rank, world=world)
    return iter(_loader(items, batch_size // world, sampler, workers))


def held_out_batches(
    items: CodeDataset, *, batch_size: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """This process's share of all items, once, in order."""
    keys = [(index, index) for index in range(rank, len(items), world)]
    return iter(_loader(items, batch_size, keys, 0))


def lacks_a_batch(items: CodeDataset, *, batch_size: int, rank: int, world: int) -> bool:
    """Whether this process's share has one batch less than the first one's."""
    first, own = (-(-len(range(r, len(items), world)) // batch_size) for r in (0, rank))
    return own < first


def _loader(items: CodeDataset, batch_size: int, sampler: Any, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        items,
        batch_size=None,  # an item of the data set is a whole batch, by its keys
        sampler=BatchSampler(sampler, batch_size, drop_last=False),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )
