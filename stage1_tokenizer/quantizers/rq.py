"""RQ-VAE: each code quantizes the residual that the codes before it leave (arXiv 2203.01941, section 3.1)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import AtLeastTwo, Count, NonNegative, Share
from stage1_tokenizer.quantizers.base import Quantized, keywords_of
from stage1_tokenizer.quantizers.codebook_init import left_over
from stage1_tokenizer.quantizers.ema import EMA
from stage1_tokenizer.quantizers.estimators import straight_through
from stage1_tokenizer.quantizers.residual import LevelQuantizers


@dataclass(frozen=True, kw_only=True)
class RQConfig:
    """The codebooks, and the averages that make them."""

    method: Literal["rq"] = "rq"
    codebook_size: AtLeastTwo = 1024
    """Number of codes of each level, K (16,384 in the paper)."""
    code_dim: Count = 64
    """Dimension of the latents, d (256 in the paper)."""
    levels: AtLeastTwo = 4
    """Codes of one position, each of which refines those before it; D in the paper."""
    shared: bool = True
    """Whether one codebook serves all levels, as in the paper, or each level has its own."""
    decay: Share = 0.99
    """Decay of the moving averages in each step, gamma."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss, a mean over levels of the distance to the sum up to that level."""
    weight: NonNegative = 1.0
    """A second factor on the commitment loss, after `beta`."""
    reset: Literal["none", "redraw", "state"] = "state"
    """How rarely chosen codes are reset, to residuals of the batch; see `EMAConfig`."""
    reset_share: Share = 0.03
    """A code is rarely chosen if its averaged count is below this share of the count under uniform use."""


class RQ(LevelQuantizers):
    """Vectors to one code per level, the nearest to the residual; no gradient trains the codebooks.

    Different from the paper: a shared codebook updates its averages once per step with the residuals of all levels,
    not once per level; and it begins as vectors of the first batch and their residuals.

        >>> quantizer = RQ(codebook_size=64, code_dim=8, levels=3)
        >>> latents, codes, loss = quantizer(torch.randn(2, 5, 8))
        >>> codes.shape
        torch.Size([2, 5, 3])
    """

    config_class = RQConfig
    config: RQConfig

    @keywords_of(RQConfig)
    def __init__(self, *given: RQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        self.tables = nn.ModuleList(
            EMA(
                codebook_size=config.codebook_size,
                code_dim=config.code_dim,
                decay=config.decay,
                reset=config.reset,
                reset_share=config.reset_share,
            )
            for _ in range(1 if config.shared else config.levels)
        )

    def level(self, level: int) -> EMA:
        """The averages that serve a level."""
        ema = self.tables[0 if self.config.shared else level]
        assert isinstance(ema, EMA)
        return ema

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, the last level's sums and the loss.

        `commitment` is beta times the mean over levels of |z - sg x_m|^2, which moves the encoder alone.
        """
        codes = self.encode(latents)
        sums = self.sums(codes)
        estimated = straight_through(latents, sums[-1])
        each = [F.mse_loss(latents, part.detach()) for part in sums]
        weight = self.config.weight * self.config.beta
        losses = {"commitment": weight * torch.stack(each).mean()}
        return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    @torch.no_grad()
    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, "m levels"]) -> None:
        """Takes in the residual before each level, and the code that it chose.

        A shared codebook gets them vector by vector, so that several batches count the same as one joined batch.
        """
        before = [torch.zeros_like(inputs, dtype=torch.float32), *self.sums(codes)[:-1]]
        left = inputs.float()[:, None] - torch.stack(before, 1)
        if self.config.shared:
            self.level(0).accumulate(left.flatten(0, 1), codes.flatten())
        else:
            for level in range(self.config.levels):
                self.level(level).accumulate(left[:, level], codes[:, level])

    def after_step(self) -> None:
        """The averages and resets of each codebook."""
        for level in range(len(self.tables)):
            self.level(level).after_step()

    def start_from_table(self) -> None:
        """Brings the averages of each codebook in line with its loaded codes."""
        for level in range(len(self.tables)):
            self.level(level).start_from_table()

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """Each codebook begins as residuals before its level; a shared one, as residuals before all levels."""
        seen: list[Tensor] = []
        for level in range(self.config.levels):
            ema = self.level(level)
            seen = [*seen, vectors] if self.config.shared else [vectors]
            ema.init_from(torch.cat(seen))
            vectors = left_over(vectors - ema.lookup(ema.encode(vectors)))
