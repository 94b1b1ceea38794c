"""Random order and random state as functions of a seed and a position."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

_PRIME = 1_000_003


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The permutation of `size` items that makes up one epoch."""
    return torch.randperm(size, generator=generator_at(seed, epoch))


def generator_at(seed: int, position: int) -> torch.Generator:
    """A generator whose state is a function of seed and position, as for an item's augmentation."""
    return torch.Generator().manual_seed((seed * _PRIME + position) % 2**63)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds the global random state, which dropout uses, by seed, step and rank: it need not be saved."""
    torch.manual_seed((((seed + 1) * _PRIME + step) * _PRIME + rank) % 2**64)


class EndlessSampler(Sampler[tuple[int, int]]):
    """Yields (position, index) of this process's share of an endless stream of shuffled epochs.

    `start` is the number of items that all processes together have consumed: the sampler goes on exactly
    where a run that was stopped there would have gone on. A batch holds the same items for any `world`.
    """

    def __init__(self, size: int, *, seed: int, start: int = 0, rank: int = 0, world: int = 1):
        self.size, self.seed, self.start, self.rank, self.world = size, seed, start, rank, world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, epoch = self.start + self.rank, -1
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = epoch_order(self.size, self.seed, epoch)
            yield position, int(order[position % self.size])
            position += self.world
