"""FC: codes and latents on the unit sphere, of few dimensions (ViT-VQGAN, arXiv 2110.04627)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stage1_tokenizer.quantizers.base import Quantized
from stage1_tokenizer.quantizers.estimators import straight_through
from stage1_tokenizer.quantizers.losses import two_pulls
from stage1_tokenizer.quantizers.table import TableQuantizer


@dataclass(frozen=True, kw_only=True)
class FCConfig:
    """The codebook, and the weights of its two pulls."""

    method: Literal["fc"] = "fc"
    codebook_size: int = 1024
    """Number of codes, K."""
    code_dim: int = 8
    """Dimension of one code vector. The paper's projections to few dimensions and back are the encoder's
    last and the decoder's first layer, so that a factorised code is simply a small number here."""
    beta: float = 0.25
    """Pull of the codes on the encoder, relative to the pull of the encoder on the codes."""
    weight: float = 1.0
    """Weight of both pulls in the total loss."""


class FC(TableQuantizer):
    """Vectors to the row of a trained table with the greatest cosine; what comes out has norm 1."""

    config_class = FCConfig
    config: FCConfig

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The rows of the table, each divided by its norm."""
        return _normalised(self.table)

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and the two pulls, all on the sphere; float32, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            codes = self.encode(latents)
            chosen = self.lookup(codes)
            on_sphere = _normalised(latents)
            losses = two_pulls(on_sphere, chosen, self.config.weight, self.config.beta)
            estimated = straight_through(on_sphere, chosen)
            return Quantized(estimated, codes, losses, latents.detach().float().flatten(0, 1))

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """Codes alone; among codes of one norm the nearest has the greatest cosine."""
        return super().encode(_normalised(latents))

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Rows of the codebook."""
        return _normalised(F.embedding(codes, self.table))


def _normalised(rows: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Rows of norm 1; a row shorter than 1e-6 is multiplied by a million, so that gradients stay finite."""
    return F.normalize(rows.float(), dim=-1, eps=1e-6)
