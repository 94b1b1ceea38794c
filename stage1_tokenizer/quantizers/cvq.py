"""CVQ: a trained table whose unused codes move to anchors among the latents (arXiv 2307.15139)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.seeding import generator_at
from stage1_tokenizer.quantizers.base import gather_over_processes
from stage1_tokenizer.quantizers.batch_statistics import SEED, BatchStatistics
from stage1_tokenizer.quantizers.estimators import Estimator
from stage1_tokenizer.quantizers.search import TILE, nearest
from stage1_tokenizer.quantizers.step_counter import StepCounter
from stage1_tokenizer.quantizers.table import StartedTableQuantizer
from stage1_tokenizer.quantizers.tiles import in_tiles

POOL = 1024
"""Vectors of a step among which `probrandom` draws."""
TEMPERATURE = 0.07
"""Of the contrastive loss."""


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
    contrastive_weight: float = 0.0
    """Of the contrastive loss, which the authors' code leaves off, and has at 1 where it is on. It needs the
    distances of all N x K pairs, computed and sorted a tile at a time."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(
                f"decay={self.decay} must be at least 0 and below 1: set model.quantizer.decay"
            )


class CVQ(StartedTableQuantizer):
    """Plain VQ, in which after each step a code moves to its anchor the more the less it is used.

    Distances are Euclidean. `random` and `probrandom` draw from this step's vectors alone, `probrandom`
    from at most 1024. The contrastive loss is that of each process's own vectors. Codes move after the
    optimizer, not before.
    """

    config_class = CVQConfig
    config: CVQConfig
    usage: Tensor

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.register_buffer("usage", torch.zeros(self.config.codebook_size))
        self.counter = StepCounter()
        self._noted = BatchStatistics()

    def losses(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Both pulls, and the contrastive loss where it is on."""
        losses = super().losses(latents, chosen)
        if self.config.contrastive_weight:
            loss = contrast(self.codebook, latents.detach().flatten(0, 1))
            losses["contrastive"] = self.config.contrastive_weight * loss
        return losses

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


def contrast(
    codebook: Float[Tensor, "k d"], vectors: Float[Tensor, "n d"], tile: int | None = None
) -> Float[Tensor, ""]:
    """How little each code tells its nearest vectors from the farther half of them; the mean over the codes.

    The paper's -log(exp(s+ / T) / (exp(s+ / T) + sum over i of exp(s_i / T))) for each code, where similarities
    s are negative squared distances, s+ is the mean of the n / k largest (at least one) and s_i are the lower
    half. It moves codes alone, and hardly any where the vectors are far apart beside T. `tile` is the number of
    similarities held at once, beside their copies and order.
    """
    centre = codebook.detach().mean(0)
    vectors = vectors - centre
    norms = vectors.square().sum(1)
    count = len(vectors)

    def part(codes: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
        alike = 2 * (codes - centre) @ vectors.T - norms  # less |c|^2, the same throughout a row
        near = alike.topk(max(count // len(codebook), 1), sorted=False).values.mean(1, keepdim=True)
        far = alike.topk(count // 2, largest=False, sorted=False).values
        logits = torch.cat([near, far], 1) / TEMPERATURE
        return -logits.log_softmax(1)[:, 0].sum()

    return torch.stack(in_tiles(part, codebook, count, tile)).sum() / len(codebook)


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
