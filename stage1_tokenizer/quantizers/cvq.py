"""CVQ: a trained table whose unused codes move to anchors among the latents (arXiv 2307.15139)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.order import generator_at
from stage1_tokenizer.quantizers.base import gather_over_processes
from stage1_tokenizer.quantizers.batch_statistics import SEED, BatchStatistics
from stage1_tokenizer.quantizers.estimators import Estimator
from stage1_tokenizer.quantizers.search import TILE, nearest
from stage1_tokenizer.quantizers.step_counter import StepCounter
from stage1_tokenizer.quantizers.table import StartedTableQuantizer

POOL = 1024
"""Vectors of a step among which `probrandom` draws."""


@dataclass(frozen=True, kw_only=True)
class CVQConfig:
    """Plain VQ's keys, and what unused codes become."""

    method: Literal["cvq"] = "cvq"
    codebook_size: int = 1024
    """Number of codes, K."""
    code_dim: int = 64
    """Dimension of one code vector, d."""
    beta: float = 0.25
    """Pull of the codes on the encoder, relative to the pull of the encoder on the codes."""
    weight: float = 1.0
    """Weight of both pulls in the total loss."""
    start: Literal["normal", "uniform", "data"] = "normal"
    """Of the table: N(0, 1); uniform in +-1/K; or vectors of the first batch."""
    estimator: Estimator = "straight-through"
    """`rotation` is the rotation trick (arXiv 2410.06424)."""
    anchor: Literal["closest", "random", "probrandom"] = "closest"
    """The vector to which an unused code moves: the nearest to it; any; or any, the near ones more often,
    by the softmax of the negative squared distance."""
    decay: float = 0.99
    """What of the running share of each code stays in each step, gamma."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(
                f"decay={self.decay} must be at least 0 and below 1: set model.quantizer.decay"
            )


class CVQ(StartedTableQuantizer):
    """Plain VQ, in which after each step a code moves to its anchor the more the less it is used.

    Distances are Euclidean. `random` and `probrandom` draw from this step's vectors alone, `probrandom`
    from at most 1024. The contrastive loss is left out: it sorts the distances of all N x K pairs. Codes
    move after the optimizer, not before.
    """

    config_class = CVQConfig
    config: CVQConfig
    usage: Tensor

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.register_buffer("usage", torch.zeros(self.config.codebook_size))
        self.counter = StepCounter()
        self._noted = BatchStatistics()

    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, " m"]) -> None:
        """Notes which vectors chose which code."""
        self._noted.add(inputs, codes)

    @torch.no_grad()
    def after_step(self) -> None:
        """The running shares, and each code's way to its anchor, which is short where the share is not 0."""
        size, decay = self.config.codebook_size, self.config.decay
        counts, _ = self._noted.counts_and_sums(size)
        self.usage.lerp_(counts / counts.sum().clamp_min(1), 1 - decay)
        way = torch.exp(-10 * size * self.usage / (1 - decay) - 1e-3)
        self.table.lerp_(self._anchors(), way[:, None])
        self.counter.advance()
        self._noted.clear()

    def _anchors(self) -> Float[Tensor, "k d"]:
        if self.config.anchor == "closest":
            return closest(self.codebook, self._noted.inputs)
        count = self.config.codebook_size
        if self.config.anchor == "random":
            return self._noted.candidates(count, self.counter.value)
        pool = self._noted.candidates(min(count, POOL), self.counter.value)
        draws = torch.rand(count, generator=generator_at(SEED + 1, self.counter.value))
        return near(self.codebook, pool, draws.to(pool))


def closest(codebook: Float[Tensor, "k d"], vectors: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """For each code the nearest of all processes' vectors; of equal ones, that of the first process."""
    mine = vectors[nearest(codebook, vectors)]
    every = gather_over_processes(mine).unflatten(0, (-1, len(codebook)))
    winner = (every - codebook).square().sum(2).argmin(0)
    return every[winner, torch.arange(len(codebook), device=winner.device)]


def near(
    codebook: Float[Tensor, "k d"], pool: Float[Tensor, "n d"], draws: Float[Tensor, " k"]
) -> Float[Tensor, "k d"]:
    """For each code one of the pool, with probability softmax(-squared distance), by its uniform number."""
    rows = max(TILE.get(codebook.device.type, 2**22) // len(pool), 1)
    chosen = []
    for codes, numbers in zip(codebook.split(rows), draws.split(rows), strict=True):
        shares = torch.cdist(codes, pool).square().neg().softmax(1).cumsum(1)
        places = torch.searchsorted(shares, numbers[:, None] * shares[:, -1:], right=True)
        chosen.append(places[:, 0].clamp_max(len(pool) - 1))
    return pool[torch.cat(chosen)]
