"""SQ-VAE: stochastic codes whose variance is learned and shrinks on its own (arXiv 2205.07547).

Its Gaussian model of type I, and its von Mises-Fisher model.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count, NonNegative, Positive
from stage1_tokenizer.quantizers.assignments import StepCounter
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import random_codebook
from stage1_tokenizer.quantizers.search import nearest
from stage1_tokenizer.quantizers.soft_assignment import rename_old_counter, soft_assignment

COLDEST = 1e-3
"""The temperature's floor, where mixtures are single codes but for rounding."""


@dataclass(frozen=True, kw_only=True)
class SQVAEConfig:
    """The codebook, and the noise that its training begins with."""

    method: Literal["sqvae"] = "sqvae"
    kind: Literal["gaussian", "vmf"] = "gaussian"
    """Distribution around a code: Gaussian with one variance (type I), or von Mises-Fisher on the unit sphere."""
    codebook_size: Count = 1024
    """Number of codes, K; time grows with it as with a layer's width."""
    code_dim: Count = 64
    """Dimension of one code vector, d."""
    weight: NonNegative = 1.0
    """Weight of the latent terms in the total loss."""
    values: Count = 192
    """Data values per position, by which both losses are divided: 3 x 8 x 8 for colour images at a factor of 8. With
    a weight of 1 and loss.arelbo the total is then the paper's bound, per value."""
    start: Positive = 20.0
    """Initial variance (`vmf`: concentration) minus 1; it never falls below 1. The variance should be about d / 3: with
    8 dimensions, the digits used 1 of 64 codes after 500 steps from 20, and 38 after 400 from 2 (and with
    loss.arelbo)."""
    annealing: NonNegative = 1e-5
    """The mixture's temperature is exp(-annealing * step)."""


class SQVAE(Quantizer):
    """Vectors to mixtures of codes sampled from p(k | z), a softmax of -`precision` |z - c_k|^2.

    In eval mode the most probable code is chosen. The paper's reconstruction term is D / 2 times the log of the mean
    squared error (for images: loss.arelbo); with another reconstruction loss, `weight` balances it against the
    latent terms. Variances that the encoder predicts (types II to IV) are left out.
    """

    config_class = SQVAEConfig
    config: SQVAEConfig

    @keywords_of(SQVAEConfig)
    def __init__(self, *given: SQVAEConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        self.table = nn.Parameter(random_codebook(config.codebook_size, config.code_dim))
        self.log_width = nn.Parameter(torch.tensor(math.log(config.start)))
        self.counter = StepCounter()
        self.register_load_state_dict_pre_hook(rename_old_counter)

    @property
    def width(self) -> Float[Tensor, ""]:
        """The variance; of `vmf`, the concentration."""
        return 1 + self.log_width.float().exp()

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """Falls exponentially with the step."""
        return torch.exp(-self.config.annealing * self.counter.steps).clamp_min(COLDEST)

    @property
    def precision(self) -> Float[Tensor, ""]:
        """1 / (2 variance); on the sphere, where |z - c|^2 = 2 - 2 z . c, half the concentration."""
        return self.width / 2 if self.config.kind == "vmf" else 0.5 / self.width

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The trained codes; of `vmf`, their directions."""
        return self._on_sphere(self.table.float())

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, mixtures (in eval mode the codes' vectors) and losses.

        `codes` is KL(p(k | z) || uniform); `noise` is |z - mixture|^2 / (2 variance), for `vmf` concentration times
        (1 - z . mixture).
        """
        latents = self._on_sphere(latents)
        codes, flat = self.encode(latents), latents.flatten(0, 1)
        soft = soft_assignment(flat, self.codebook, self.precision, self.temperature)
        mixed = soft.mixed if self.training else self.lookup(codes).flatten(0, 1)
        if self.config.kind == "vmf":
            noise = self.width * (flat * (flat - mixed)).sum()
        else:
            noise = self.precision * (flat - mixed).square().sum()
        factor = self.config.weight / self.config.values / len(flat)
        losses = {"codes": factor * soft.divergence, "noise": factor * noise}
        return Quantized(mixed.view_as(latents), codes, losses, flat.detach())

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The most probable codes."""
        return nearest(self._on_sphere(latents), self.codebook)

    def after_step(self) -> None:
        """Counts the step, on which the temperature depends."""
        self.counter.advance()

    def _on_sphere(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Their directions, of `vmf`."""
        return F.normalize(vectors, dim=-1) if self.config.kind == "vmf" else vectors
