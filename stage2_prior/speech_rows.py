"""Batches of conditions and codes of unequal lengths, much the same in one batch."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from common.seeding import EndlessSampler, epoch_order, generator_at
from stage2_prior.data import Batch
from stage2_prior.model import IGNORED
from stage2_prior.speech_model import SpeechPrior

BLOCK = 16
"""Batches whose rows are sorted by length before they are cut into batches."""


class SpeechRows(TorchDataset[Batch]):
    """Rows of a folder of codes; of some, drawn by position, the whole condition is withheld."""

    def __init__(self, rows: Dataset, prior: SpeechPrior, drop: float, seed: int) -> None:
        columns = {"label": "labels", "speaker": "speakers", "text": "texts"}
        given = {columns[name]: rows[name][:] for name in prior.config.parts}
        self.conditions = prior.conditions(len(rows), **given)
        self.none = torch.tensor(prior.config.no_condition)
        self.rows = rows.select_columns(["codes"]).with_format("numpy")
        self.lengths = torch.tensor([len(codes) for codes in self.rows["codes"]])
        self.drop, self.seed = drop, seed

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def mean_codes(self) -> float:
        """Codes per row."""
        return float(self.lengths.float().mean())

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        """The rows of (position, index) keys as one batch, padded on the right with IGNORED."""
        indices = [index for _, index in keys]
        found = [torch.from_numpy(row.astype(np.int64)) for row in self.rows[indices]["codes"]]
        codes = pad_sequence(found, batch_first=True, padding_value=IGNORED)
        draws = [
            torch.rand((), generator=generator_at(self.seed, position)) for position, _ in keys
        ]
        kept = torch.stack(draws) >= self.drop
        return self.conditions[indices].where(kept[:, None], self.none), codes

    def endless(
        self, *, batch_size: int, start: int, rank: int, world: int
    ) -> Sampler[tuple[int, int]]:
        """This process's share of shuffled epochs, each batch of rows of about one length."""
        return BucketSampler(
            self.lengths, batch_size, seed=self.seed, start=start, rank=rank, world=world
        )


class BucketSampler(Sampler[tuple[int, int]]):
    """Yields (position, index) as EndlessSampler does, its order changed within blocks of batches.

    A block's rows are sorted by length and cut into batches, which come in random order. The order
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
