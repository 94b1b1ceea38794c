"""SQ-VAE: stochastic codes whose variance is learned and shrinks on its own (arXiv 2205.07547).

Its Gaussian model of type I, and its von Mises-Fisher model.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stage1_tokenizer.quantizers.soft import SoftQuantizer

COLDEST = 1e-3
"""The temperature's floor, where mixtures are single codes but for rounding."""


@dataclass(frozen=True, kw_only=True)
class SQVAEConfig:
    """The codebook, and the noise that its training begins with."""

    method: Literal["sqvae"] = "sqvae"
    kind: Literal["gaussian", "vmf"] = "gaussian"
    """Of the distribution around a code: with one variance for all (type I), or on the unit sphere."""
    codebook_size: int = 1024
    """Number of codes, K; time grows with it as with a layer's width."""
    code_dim: int = 64
    """Dimension of one code vector, d."""
    weight: float = 1.0
    """Weight of the latent terms in the total loss."""
    values: int = 192
    """Values of the data that one position stands for: 3 x 8 x 8 in colour at a factor of 8. With it, a weight
    of 1 and loss.arelbo the total is the paper's bound, per value."""
    start: float = 20.0
    """Variance (of `vmf`: concentration) at the start, less 1, which is its least. The variance wants to be
    about d / 3: with 8 dimensions, from 20 the digits used 1 of 64 codes after 500 steps, from 2 (and with
    loss.arelbo) 38 after 400."""
    annealing: float = 1e-5
    """The mixture's temperature is exp(-annealing * step)."""

    def __post_init__(self) -> None:
        if self.start <= 0 or self.values < 1:
            raise ValueError(
                f"start={self.start} and values={self.values} must be positive: "
                "set model.quantizer.start or model.quantizer.values"
            )


class SQVAE(SoftQuantizer):
    """Vectors to codes drawn from their posterior; in eval mode, to the most probable one.

    The paper's reconstruction term is D / 2 times the log of the mean squared error, for which pictures have
    loss.arelbo; beside another one `weight` decides how much of the bound is kept. Variances that the encoder
    predicts (types II to IV) are left out.
    """

    config_class = SQVAEConfig
    config: SQVAEConfig

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.log_width = nn.Parameter(torch.tensor(math.log(self.config.start)))

    @property
    def width(self) -> Float[Tensor, ""]:
        """The variance; of `vmf`, the concentration."""
        return 1 + self.log_width.float().exp()

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """Falls exponentially with the step."""
        return torch.exp(-self.config.annealing * self.steps).clamp_min(COLDEST)

    @property
    def precision(self) -> Float[Tensor, ""]:
        """1 / (2 variance); on the sphere, where |z - c|^2 = 2 - 2 z . c, half the concentration."""
        return self.width / 2 if self.config.kind == "vmf" else 0.5 / self.width

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The table; of `vmf`, its rows' directions."""
        return self.placed(self.table.float())

    def placed(self, latents: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Their directions, of `vmf`."""
        return F.normalize(latents, dim=-1) if self.config.kind == "vmf" else latents

    def terms(
        self,
        latents: Float[Tensor, "n d"],
        mixed: Float[Tensor, "n d"],
        divergence: Float[Tensor, ""],
        distance: Float[Tensor, ""],
    ) -> dict[str, Float[Tensor, ""]]:
        """`codes` and `noise`: the divergences of the code and of the vector, both from their priors."""
        if self.config.kind == "vmf":
            noise = self.width * (latents * (latents - mixed)).sum()
        else:
            noise = self.precision * (latents - mixed).square().sum()
        return {"codes": divergence, "noise": noise}
