"""VQ: a codebook whose every code is trained by the gradient of the vectors that choose it (arXiv 1711.00937)."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from common.bounds import Count, NonNegative
from stage1_tokenizer.quantizers.base import Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import random_codebook, sample_vectors
from stage1_tokenizer.quantizers.estimators import Estimator


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """The codebook, and the options of its training."""

    method: Literal["vq"] = "vq"
    codebook_size: Count = 1024
    """Number of codes, K."""
    code_dim: Count = 64
    """Dimension of one code vector, d."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss relative to the codebook loss."""
    weight: NonNegative = 1.0
    """Weight of codebook and commitment loss in the total loss."""
    start: Literal["normal", "uniform", "data"] = "normal"
    """Initial codebook: N(0, 1); uniform in +-1/K as in VQGAN; or vectors of the first batch."""
    estimator: Estimator = "straight-through"
    """`rotation` is the rotation trick (arXiv 2410.06424)."""


class VQ(Quantizer):
    """Vectors to the nearest of K trained codes (VQ-VAE, equations 1 to 3). Only codes that are chosen learn.

    >>> import torch
    >>> quantizer = VQ(codebook_size=64, code_dim=8)
    >>> latents, codes, loss = quantizer(torch.randn(2, 5, 8))
    >>> codes.shape
    torch.Size([2, 5])
    """

    config_class = VQConfig
    config: VQConfig

    @keywords_of(VQConfig)
    def __init__(self, *given: VQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        codes = random_codebook(config.codebook_size, config.code_dim, config.start)
        self.table = nn.Parameter(codes)

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """With `start=data`, K of the vectors, at random."""
        if self.config.start == "data":
            self.table.copy_(sample_vectors(vectors, self.config.codebook_size))
