"""FC: codes and latents on the unit sphere, of few dimensions (ViT-VQGAN, arXiv 2110.04627)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count, NonNegative
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import random_codebook
from stage1_tokenizer.quantizers.estimators import straight_through
from stage1_tokenizer.quantizers.losses import codebook_and_commitment_loss
from stage1_tokenizer.quantizers.search import nearest


@dataclass(frozen=True, kw_only=True)
class FCConfig:
    """The codebook, and the weights of its two losses."""

    method: Literal["fc"] = "fc"
    codebook_size: Count = 1024
    """Number of codes, K."""
    code_dim: Count = 8
    """Dimension of one code vector. The paper's projections to few dimensions and back are the encoder's
    last and the decoder's first layer, so that a factorised code is simply a small dimension here."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss relative to the codebook loss."""
    weight: NonNegative = 1.0
    """Weight of codebook and commitment loss in the total loss."""


class FC(Quantizer):
    """Vectors to the trained code with the greatest cosine, argmin_k |z / |z| - c_k / |c_k|| as in ViT-VQGAN.

    Quantized latents have norm 1.
    """

    config_class = FCConfig
    config: FCConfig

    @keywords_of(FCConfig)
    def __init__(self, *given: FCConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        self.table = nn.Parameter(random_codebook(config.codebook_size, config.code_dim))

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The trained codes, each divided by its norm."""
        return _normalised(self.table)

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses, all on the sphere."""
        codes = self.encode(latents)
        chosen = self.lookup(codes)
        on_sphere = _normalised(latents)
        weight, beta = self.config.weight, self.config.beta
        losses = codebook_and_commitment_loss(on_sphere, chosen, weight, beta)
        estimated = straight_through(on_sphere, chosen)
        return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The codes of vectors; among codes of one norm the nearest has the greatest cosine."""
        return nearest(_normalised(latents), self.codebook)

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Entries of the codebook; only these are divided by their norms."""
        return _normalised(F.embedding(codes, self.table))


def _normalised(vectors: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Vectors of norm 1; one shorter than 1e-6 is multiplied by a million, so that gradients stay finite."""
    return F.normalize(vectors.float(), dim=-1, eps=1e-6)
