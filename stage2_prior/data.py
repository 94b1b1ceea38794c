"""Batches of codes and conditions, a function of the seed and of how many rows went before."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from common.seeding import EndlessSampler, generator_at

Batch = tuple[Tensor, Tensor]
"""Conditions (b) or (b, p) and codes (b, n), int64."""


@runtime_checkable
class Rows(Protocol):
    """What training reads: rows of codes with their conditions."""

    @property
    def mean_codes(self) -> float: ...
    def __len__(self) -> int: ...
    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch: ...
    def endless(
        self, *, batch_size: int, start: int, rank: int, world: int
    ) -> Sampler[tuple[int, int]]: ...


class CodeRows(TorchDataset[Batch]):
    """Rows of a folder of codes; of some, drawn by position, the label is withheld."""

    def __init__(self, rows: Dataset, classes: int, drop: float, seed: int) -> None:
        self.rows = rows.select_columns(["label", "codes"]).with_format("numpy")
        self.classes, self.drop, self.seed = classes, drop, seed

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def mean_codes(self) -> float:
        """Codes per row."""
        return len(self.rows[0]["codes"])

    def endless(
        self, *, batch_size: int, start: int, rank: int, world: int
    ) -> Sampler[tuple[int, int]]:
        """This process's share of shuffled epochs, the same for any batch size."""
        return EndlessSampler(len(self), seed=self.seed, start=start, rank=rank, world=world)

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        """The rows of (position, index) keys as one batch."""
        found = self.rows[[index for _, index in keys]]
        codes = torch.from_numpy(np.asarray(found["codes"]).astype(np.int64))
        if not self.classes:
            return torch.zeros(len(keys), dtype=torch.int64), codes
        labels = torch.from_numpy(np.asarray(found["label"]).astype(np.int64))
        draws = [
            torch.rand((), generator=generator_at(self.seed, position)) for position, _ in keys
        ]
        return labels.where(torch.stack(draws) >= self.drop, self.classes), codes


def training_batches(
    rows: Rows, *, batch_size: int, done: int, rank: int, world: int, workers: int
) -> Iterator[Batch]:
    """Endless batches of this process, after `done` rows of all processes. `batch_size` is over all."""
    sampler = rows.endless(batch_size=batch_size, start=done, rank=rank, world=world)
    return iter(_loader(rows, batch_size // world, sampler, workers))


def held_out_batches(rows: Rows, *, batch_size: int, rank: int, world: int) -> Iterator[Batch]:
    """This process's share of all rows, once, in order."""
    keys = [(index, index) for index in range(rank, len(rows), world)]
    return iter(_loader(rows, batch_size, keys, 0))


def _loader(rows: Rows, batch_size: int, sampler: Any, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=lambda batch: batch,  # __getitems__ has made the batch
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )
