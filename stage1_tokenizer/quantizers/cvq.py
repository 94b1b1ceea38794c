"""CVQ: a trained codebook whose unused codes move to anchors among the latents (arXiv 2307.15139)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count, NonNegative, Share
from common.processes import gather_over_processes
from common.seeding import generator_at
from stage1_tokenizer.quantizers.assignments import SEED, Assignments, StepCounter
from stage1_tokenizer.quantizers.base import Quantizer, keywords_of
from stage1_tokenizer.quantizers.chunks import in_chunks, scores_at_once
from stage1_tokenizer.quantizers.codebook_init import random_codebook, sample_vectors
from stage1_tokenizer.quantizers.estimators import Estimator
from stage1_tokenizer.quantizers.search import nearest

POOL = 1024
"""Vectors of a step from which `probrandom` samples."""
TEMPERATURE = 0.07
"""Of the contrastive loss."""


@dataclass(frozen=True, kw_only=True)
class CVQConfig:
    """Plain VQ's keys, and what unused codes become."""

    method: Literal["cvq"] = "cvq"
    codebook_size: Count = 1024
    """Number of codes, K."""
    code_dim: Count = 64
    """Dimension of one code vector, d."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss relative to the codebook loss."""
    weight: NonNegative = 1.0
    """Weight of codebook and commitment loss in the total loss."""
    start: Literal["normal", "uniform", "data"] = "normal"
    """Initial codebook: N(0, 1); uniform in +-1/K; or vectors of the first batch."""
    estimator: Estimator = "straight-through"
    """`rotation` is the rotation trick (arXiv 2410.06424)."""
    anchor: Literal["closest", "random", "probrandom"] = "closest"
    """The vector that an unused code moves to: the nearest; a random one; or a random one with probability
    softmax(-squared distance)."""
    decay: Share = 0.99
    """Decay of each code's running usage in each step, gamma."""
    contrastive_weight: NonNegative = 0.0
    """Weight of the contrastive loss (authors' code: 0 by default, 1 if on). It needs the distances of all N x K pairs,
    computed and sorted a chunk at a time."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(
                f"decay={self.decay} must be at least 0 and below 1: set model.quantizer.decay"
            )


class CVQ(Quantizer):
    """Vectors to the nearest of K trained codes; after each step, little-used ones move to anchors (CVQ-VAE).

    Distances are Euclidean. `random` and `probrandom` sample this step's vectors only, `probrandom` from at most
    1024. The contrastive loss uses each process's own vectors. Codes move after the optimizer's step, not before.
    """

    config_class = CVQConfig
    config: CVQConfig
    usage: Tensor

    @keywords_of(CVQConfig)
    def __init__(self, *given: CVQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        codes = random_codebook(config.codebook_size, config.code_dim, config.start)
        self.table = nn.Parameter(codes)
        self.register_buffer("usage", torch.zeros(config.codebook_size))
        self.counter = StepCounter()
        self._assignments = Assignments()

    def losses(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Codebook and commitment loss, and the contrastive one where it is on."""
        losses = super().losses(latents, chosen)
        if self.config.contrastive_weight:
            loss = contrastive_loss(self.codebook, latents.detach().flatten(0, 1))
            losses["contrastive"] = self.config.contrastive_weight * loss
        return losses

    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, " m"]) -> None:
        """Takes in which vectors chose which code."""
        self._assignments.add(inputs, codes)

    @torch.no_grad()
    def after_step(self) -> None:
        """Updates the running usage u, and moves each code towards its anchor by the share
        alpha = exp(-10 K u / (1 - gamma) - 0.001), which is near 1 for an unused code and falls with use."""
        size, decay = self.config.codebook_size, self.config.decay
        counts, _ = self._assignments.counts_and_sums(size, self.usage.dtype)
        self.usage.lerp_(counts / counts.sum().clamp_min(1), 1 - decay)
        alpha = torch.exp(-10 * size * self.usage / (1 - decay) - 1e-3)
        anchors = torch.where(counts.sum() > 0, self._anchors(), self.table)
        self.table.lerp_(anchors, alpha[:, None])
        self.counter.advance()
        self._assignments.clear()

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """With `start=data`, K of the vectors, at random."""
        if self.config.start == "data":
            self.table.copy_(sample_vectors(vectors, self.config.codebook_size))
            self.usage.zero_()

    def _anchors(self) -> Float[Tensor, "k d"]:
        if self.config.anchor == "closest":
            return closest(self.codebook, self._assignments.inputs)
        count = self.config.codebook_size
        if self.config.anchor == "random":
            return self._assignments.sample(count, self.counter.value)
        pool = self._assignments.sample(min(count, POOL), self.counter.value)
        uniform = torch.rand(count, generator=generator_at(SEED + 1, self.counter.value))
        return sample_near(self.codebook, pool, uniform.to(pool))


def contrastive_loss(
    codebook: Float[Tensor, "k d"], vectors: Float[Tensor, "n d"], most: int | None = None
) -> Float[Tensor, ""]:
    """How poorly each code separates its nearest vectors from the farther half of all vectors; a mean over codes.

    The paper's -log(exp(s+ / T) / (exp(s+ / T) + sum over i of exp(s_i / T))) for each code, where similarities
    s are negative squared distances, s+ is the mean of the n / k largest (at least one) and s_i are the lower
    half. It moves codes alone, and hardly any where the vectors are far apart beside T. `most` is the number of
    similarities held at once, beside their copies and order.
    """
    centre = codebook.detach().mean(0)
    vectors = vectors - centre
    norms = vectors.square().sum(1)
    count = len(vectors)

    def part(codes: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
        alike = 2 * (codes - centre) @ vectors.T - norms  # less |c|^2, the same for all vectors
        near = alike.topk(max(count // len(codebook), 1), sorted=False).values.mean(1, keepdim=True)
        far = alike.topk(count // 2, largest=False, sorted=False).values
        logits = torch.cat([near, far], 1) / TEMPERATURE
        return -logits.log_softmax(1)[:, 0].sum()

    return torch.stack(in_chunks(part, codebook, count, most)).sum() / len(codebook)


def closest(codebook: Float[Tensor, "k d"], vectors: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """For each code the nearest of all processes' vectors; of equal ones, that of the first process."""
    mine = vectors[nearest(codebook, vectors)]
    gathered = gather_over_processes(mine).unflatten(0, (-1, len(codebook)))
    winner = (gathered - codebook).square().sum(2).argmin(0)
    return gathered[winner, torch.arange(len(codebook), device=winner.device)]


def sample_near(
    codebook: Float[Tensor, "k d"], pool: Float[Tensor, "n d"], uniform: Float[Tensor, " k"]
) -> Float[Tensor, "k d"]:
    """For each code one of the pool, with probability softmax(-squared distance), by its uniform variable."""
    size = max(scores_at_once(codebook.device) // len(pool), 1)
    chosen = []
    for codes, thresholds in zip(codebook.split(size), uniform.split(size), strict=True):
        cumulative = torch.cdist(codes, pool).square().neg().softmax(1).cumsum(1)
        thresholds = thresholds[:, None] * cumulative[:, -1:]
        indices = torch.searchsorted(cumulative, thresholds, right=True)
        chosen.append(indices[:, 0].clamp_max(len(pool) - 1))
    return pool[torch.cat(chosen)]
