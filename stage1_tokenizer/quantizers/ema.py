"""EMA: codes that are moving averages of the vectors that choose them (VQ-VAE, arXiv 1711.00937).

With `reset`, rarely chosen codes become vectors of the batch, as in Jukebox (arXiv 2005.00341) or RQ-VAE
(arXiv 2203.01941).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import Count, NonNegative, Share
from stage1_tokenizer.quantizers.assignments import Assignments, StepCounter
from stage1_tokenizer.quantizers.base import Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import random_codebook, sample_vectors
from stage1_tokenizer.quantizers.estimators import Estimator


@dataclass(frozen=True, kw_only=True)
class EMAConfig:
    """The codebook, and the averages that make it."""

    method: Literal["ema"] = "ema"
    codebook_size: Count = 1024
    """Number of codes, K."""
    code_dim: Count = 64
    """Dimension of one code vector, d."""
    decay: Share = 0.99
    """Decay of the moving averages in each step, gamma."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss (Jukebox: 0.02); the averages take the place of a codebook loss."""
    weight: NonNegative = 1.0
    """A second factor on the commitment loss, after `beta`."""
    start: Literal["normal", "data"] = "data"
    """Initial codebook: N(0, 1), or vectors of the first batch."""
    reset: Literal["none", "redraw", "state"] = "none"
    """How rarely chosen codes are reset: `redraw` makes each a new vector of the batch in every step, until its
    averages, which are not reset, pass the threshold (Jukebox); `state` resets its averages too (RQ-VAE)."""
    reset_share: Share = 0.03
    """A code is rarely chosen if its averaged count is below this share of the count under uniform use:
    the vectors of a step over all processes, divided by K."""
    estimator: Estimator = "straight-through"
    """`rotation` is the rotation trick (arXiv 2410.06424)."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or not 0 < self.reset_share < 1:
            raise ValueError(
                f"decay={self.decay} and reset_share={self.reset_share} must be between 0 and 1: set "
                "model.quantizer.decay or model.quantizer.reset_share"
            )


class EMA(Quantizer):
    """Vectors to the nearest of K codes, each the moving average of its vectors; no gradient trains them.

    As in appendix A.1 of VQ-VAE, a code (`table`) is m_k / N_k, moving averages of the sum (`sums`) and number
    (`counts`) of its vectors. Counts begin at 1, not 0, to avoid dividing by almost zero; with a reset, and where that
    is more, at the threshold of the first batch, so that codes in use stay. In Jukebox and RQ-VAE a code is rare below
    a count of 1; here the threshold grows with the batch. With a reset counts have no Laplace smoothing, as in Jukebox.
    `state` sets a count to the threshold, as RQ-VAE does.

        >>> quantizer = EMA(codebook_size=64, code_dim=8, reset="state")
        >>> latents, codes, loss = quantizer(torch.randn(2, 5, 8))
        >>> codes.shape
        torch.Size([2, 5])
    """

    config_class = EMAConfig
    averaged_buffers = ("table",)
    config: EMAConfig
    table: Tensor
    counts: Tensor
    sums: Tensor

    @keywords_of(EMAConfig)
    def __init__(self, *given: EMAConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        table = random_codebook(self.config.codebook_size, self.config.code_dim)
        self.register_buffer("table", table)
        self.register_buffer("counts", torch.ones(len(table)))
        self.register_buffer("sums", table.clone())
        self.counter = StepCounter()
        self._assignments = Assignments()

    def losses(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The commitment loss."""
        weight = self.config.weight * self.config.beta
        return {"commitment": weight * F.mse_loss(latents, chosen.detach())}

    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, " m"]) -> None:
        """Takes in which vectors chose which code."""
        self._assignments.add(inputs, codes)

    @torch.no_grad()
    def after_step(self) -> None:
        """The averages of counts and sums, the codes made of them, and the resets."""
        config = self.config
        counts, sums = self._assignments.counts_and_sums(config.codebook_size, self.counts.dtype)
        self.counts.lerp_(counts, 1 - config.decay)
        self.sums.lerp_(sums, 1 - config.decay)
        threshold = config.reset_share * counts.sum() / config.codebook_size
        if config.reset == "none":
            self.table.copy_(self.sums / smoothed(self.counts)[:, None])
        else:
            rare = self.counts < threshold
            fresh = self._assignments.sample(config.codebook_size, self.counter.value)
            if config.reset == "state":
                self.counts.copy_(torch.where(rare, threshold, self.counts))
                self.sums.copy_(torch.where(rare[:, None], threshold * fresh, self.sums))
            averages = self.sums / self.counts[:, None]
            self.table.copy_(torch.where(rare[:, None], fresh, averages))
        self.counter.advance()
        self._assignments.clear()

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """With `start=data`, K of the vectors, at random; counts begin where the batch's threshold does not reset them."""
        config = self.config
        if config.start == "data":
            self.table.copy_(sample_vectors(vectors, config.codebook_size))
            share = 0.0 if config.reset == "none" else config.reset_share
            self.counts.fill_(max(1.0, share * len(vectors) / config.codebook_size))
            self.sums.copy_(self.table * self.counts[:, None])

    @torch.no_grad()
    def start_from_table(self) -> None:
        """Sets the sums to match the table: a saved model has the table averaged over steps, but not the sums."""
        counts = smoothed(self.counts) if self.config.reset == "none" else self.counts
        self.sums.copy_(self.table * counts[:, None])


def smoothed(counts: Float[Tensor, " k"], epsilon: float = 1e-5) -> Float[Tensor, " k"]:
    """The counts with Laplace smoothing; their sum stays."""
    total = counts.sum()
    return (counts + epsilon) / (total + len(counts) * epsilon) * total
