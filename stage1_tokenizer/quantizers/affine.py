"""Affine: all codes share a scale and a shift; the codes are kept in step with the encoder.

Huh et al. 2023, "Straightening Out the Straight-Through Estimator" (arXiv 2305.08842): the affine
reparameterisation, the synchronised update, alternating optimisation, and the replacement of unused codes.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count, NonNegative, Whole
from stage1_tokenizer.quantizers.assignments import Assignments, StepCounter
from stage1_tokenizer.quantizers.base import Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import k_means, random_codebook, sample_vectors
from stage1_tokenizer.quantizers.estimators import synchronised


@dataclass(frozen=True, kw_only=True)
class AffineConfig:
    """The codebook, and the four remedies of its training."""

    method: Literal["affine"] = "affine"
    codebook_size: Count = 1024
    """Number of codes, K."""
    code_dim: Count = 64
    """Dimension of one code vector, d."""
    beta: NonNegative = 0.05
    """Weight of the commitment loss relative to the codebook loss: (1 - b) / b of the paper's b = 0.95."""
    weight: NonNegative = 1.0
    """Weight of codebook and commitment loss in the total loss (5 to 50 in the authors' code)."""
    affine_rate: NonNegative = 2.0
    """Factor from the trained parameters to the shared scale and shift, which 0 turns off."""
    nu: NonNegative = 0.0
    """Factor on the decoder's gradient to the chosen codes (0.2 to 2 in the paper); 0 stops it."""
    inner_steps: Whole = 0
    """Steps of gradient descent on the codebook loss alone, after each step of the model."""
    inner_rate: NonNegative = 50.0
    """Learning rate of the inner steps."""
    replace_after: Whole = 20
    """A code unused for this many steps becomes a vector of the batch; 0 never replaces one."""
    start: Literal["normal", "data", "k-means"] = "k-means"
    """Initial codebook: N(0, 1), vectors of the first batch, or their k-means centres."""


class Affine(Quantizer):
    """Vectors to the nearest of K codes c_mean + c_std * c_k, where c_mean and c_std are shared by all codes.

    Trained are c_k (`table`), `scale` and `shift`: c_std is 1 + rate * scale, c_mean is rate * shift. Unlike in the
    paper, the inner steps follow the model's step and use its assignments; they have no momentum, and never overshoot
    the mean of a code's vectors. `k-means` is Lloyd's algorithm from random vectors, not k-means++. A code is
    replaced by a vector of the batch without noise.
    """

    config_class = AffineConfig
    config: AffineConfig
    idle: Tensor

    @keywords_of(AffineConfig)
    def __init__(self, *given: AffineConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        size, dim = self.config.codebook_size, self.config.code_dim
        self.table = nn.Parameter(random_codebook(size, dim))
        self.scale = nn.Parameter(torch.zeros(dim), requires_grad=self.config.affine_rate > 0)
        self.shift = nn.Parameter(torch.zeros(dim), requires_grad=self.config.affine_rate > 0)
        self.register_buffer("idle", torch.zeros(size, dtype=torch.int64))
        self.counter = StepCounter()
        self._assignments = Assignments()

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The codes, scaled and shifted."""
        return self._moved(self.table)

    def estimated(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        """The chosen vectors; a part of the gradient moves them too."""
        return synchronised(latents, chosen, self.config.nu)

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Entries of the codebook; only these are scaled and shifted."""
        return self._moved(F.embedding(codes, self.table))

    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, " m"]) -> None:
        """Takes in which vectors chose which code."""
        self._assignments.add(inputs, codes)

    @torch.no_grad()
    def after_step(self) -> None:
        """The inner steps, then the replacement of codes long unused."""
        config = self.config
        counts, sums = self._assignments.counts_and_sums(config.codebook_size)
        if config.inner_steps:
            means = sums / counts[:, None].clamp_min(1)
            frequencies = counts / counts.sum().clamp_min(1)
            way = self._inner_way(frequencies).to(self.table)
            self.table.lerp_(self._unmoved(means).to(self.table), way)
        self.idle.add_(1).mul_(counts == 0)
        if config.replace_after:
            unused = (self.idle >= config.replace_after) & (counts.sum() > 0)
            fresh = self._assignments.sample(config.codebook_size, self.counter.value)
            self.table.copy_(torch.where(unused[:, None], self._unmoved(fresh), self.table))
            self.idle.mul_(~unused)
        self.counter.advance()
        self._assignments.clear()

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """With `start=data`, K of the vectors; with `start=k-means`, their centres."""
        if self.config.start != "normal":
            choose = sample_vectors if self.config.start == "data" else k_means
            self.table.copy_(choose(vectors, self.config.codebook_size))
            for moved in (self.scale, self.shift, self.idle):
                moved.zero_()

    def _inner_way(self, frequencies: Float[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """How far towards the mean of its vectors the steps take each code, from 0 to 1.

        The gradient of a code c of frequency s, for the mean square over N vectors of dimension d, is
        2 s / d (scale c + shift - mean) scale: the distance shrinks by one factor in every step.
        """
        rate = 2 * self.config.inner_rate / self.config.code_dim
        factor = (1 - rate * frequencies[:, None] * self._effective_scale().square()).clamp_min(0)
        return 1 - factor**self.config.inner_steps

    def _unmoved(self, codebook: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """The codes that scale and shift take to `codebook`; a scale near zero counts as 1e-3."""
        scale = self._effective_scale()
        scale = torch.where(scale.abs() < 1e-3, 1e-3, scale)
        return (codebook - self.config.affine_rate * self.shift) / scale

    def _moved(self, codes: Float[Tensor, "*k d"]) -> Float[Tensor, "*k d"]:
        return (
            self._effective_scale() * codes.float() + self.config.affine_rate * self.shift.float()
        )

    def _effective_scale(self) -> Float[Tensor, " d"]:
        return 1 + self.config.affine_rate * self.scale.float()
