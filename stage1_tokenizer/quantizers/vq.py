"""VQ: a table of codes, each trained by the gradient of the vectors that choose it (arXiv 1711.00937)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer
from stage1_tokenizer.quantizers.estimators import ESTIMATORS, Estimator
from stage1_tokenizer.quantizers.losses import two_pulls
from stage1_tokenizer.quantizers.search import nearest
from stage1_tokenizer.quantizers.start import drawn


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """The codebook, and the options of its training."""

    method: Literal["vq"] = "vq"
    codebook_size: int = 1024
    """Number of codes, K."""
    code_dim: int = 64
    """Dimension of one code vector, d."""
    beta: float = 0.25
    """Pull of the codes on the encoder, relative to the pull of the encoder on the codes."""
    weight: float = 1.0
    """Weight of both pulls in the total loss."""
    start: Literal["normal", "uniform", "data"] = "normal"
    """Of the table: N(0, 1); uniform in +-1/K as in VQGAN; or vectors of the first batch."""
    estimator: Estimator = "straight-through"
    """`rotation` is the rotation trick (arXiv 2410.06424)."""


class VQ(Quantizer):
    """Vectors to the nearest row of a trained table. Only rows that are chosen learn."""

    config_class = VQConfig
    config: VQConfig

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        config = self.config
        shape = config.codebook_size, config.code_dim
        if config.start == "uniform":
            table = (torch.rand(shape) * 2 - 1) / config.codebook_size
        else:
            table = torch.randn(shape)
        self.table = nn.Parameter(table)

    @property
    def spec(self) -> CodeSpec:
        """One code per position out of K."""
        return CodeSpec(sizes=(self.config.codebook_size,), order="flat")

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The table."""
        return self.table.float()

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and the two pulls (section 3.2); in float32, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.encode(latents)
            chosen = self.lookup(codes)
            losses = two_pulls(latents, chosen, self.config.weight, self.config.beta)
            estimated = ESTIMATORS[self.config.estimator](latents, chosen)
            return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """Codes alone, of any number of vectors, without gradient."""
        flat = latents.reshape(-1, self.config.code_dim)
        return nearest(flat, self.codebook).reshape(latents.shape[:-1])

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Rows of the table."""
        return F.embedding(codes, self.codebook)

    @torch.no_grad()
    def init_from(self, latents: Float[Tensor, "*b d"]) -> None:
        """With `start=data`, K of the vectors, at random."""
        if self.config.start == "data":
            flat = latents.reshape(-1, self.config.code_dim).float()
            self.table.copy_(drawn(flat, self.config.codebook_size))
