"""Residual SimVQ: each level codes the residual of the levels before it, with a codebook C W + b of its own."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.bounds import AtLeastTwo, Count, NonNegative
from stage1_tokenizer.quantizers.base import Quantized, keywords_of
from stage1_tokenizer.quantizers.estimators import straight_through
from stage1_tokenizer.quantizers.residual import LevelQuantizers
from stage1_tokenizer.quantizers.simvq import SimVQ


@dataclass(frozen=True, kw_only=True)
class ResidualSimVQConfig:
    """The codebooks, and the options of their training; see `SimVQConfig`."""

    method: Literal["residual-simvq"] = "residual-simvq"
    codebook_size: AtLeastTwo = 1024
    """Number of codes of each level, K."""
    code_dim: Count = 128
    """Dimension of the latents, d."""
    levels: AtLeastTwo = 4
    """Codes of one position, each of which refines those before it."""
    bias: bool = True
    """The b of each level's C W + b."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss relative to the codebook loss."""
    weight: NonNegative = 1.0
    """Weight of codebook and commitment loss, the means over levels, in the total loss."""
    rescale: bool = True
    """Initialize each level's W and b from the mean and scale of the level's input in the first batch."""


class ResidualSimVQ(LevelQuantizers):
    """Vectors to one code per level, the nearest to the residual. Each level is a `SimVQ` of its own.

    A level's losses use the residual before it, and send no gradient to earlier levels.

        >>> quantizer = ResidualSimVQ(codebook_size=256, code_dim=16, levels=3)
        >>> latents, codes, loss = quantizer(torch.randn(2, 10, 16))
        >>> codes.shape
        torch.Size([2, 10, 3])
        >>> coarse, finer, whole = quantizer.sums(codes)  # what the first one, two and three codes stand for
        >>> torch.equal(whole, quantizer.lookup(codes))
        True
    """

    config_class = ResidualSimVQConfig
    config: ResidualSimVQConfig

    @keywords_of(ResidualSimVQConfig)
    def __init__(self, *given: ResidualSimVQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        self.levels = nn.ModuleList(
            SimVQ(
                codebook_size=config.codebook_size,
                code_dim=config.code_dim,
                bias=config.bias,
                beta=config.beta,
                weight=config.weight,
                rescale=config.rescale,
            )
            for _ in range(config.levels)
        )

    def level(self, level: int) -> SimVQ:
        """The quantizer of a level."""
        quantizer = self.levels[level]
        assert isinstance(quantizer, SimVQ)
        return quantizer

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, the last level's sums and the losses, means over levels."""
        codes = self.encode(latents)
        total, each = torch.zeros_like(latents), []
        for level, part in enumerate(codes.unbind(-1)):
            chosen = self.added(level, part, total)
            each.append(self.level(level).losses(latents - total, chosen))
            total = total + chosen.detach()
        losses = {name: torch.stack([one[name] for one in each]).mean() for name in each[0]}
        estimated = straight_through(latents, total)
        return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """Gives each level's codes the mean and the spread of what is left before it, where `rescale` is on."""
        for level in range(self.config.levels):
            self.level(level).init_from(vectors)
            vectors = vectors - self.level(level).lookup(self.level(level).encode(vectors))
