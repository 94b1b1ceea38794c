"""What quantizers share that give each vector one code: that of the nearest row of a codebook."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer
from stage1_tokenizer.quantizers.estimators import ESTIMATORS
from stage1_tokenizer.quantizers.losses import two_pulls
from stage1_tokenizer.quantizers.search import nearest


class FlatQuantizer(Quantizer):
    """Vectors to the nearest of K codes, and back; a method changes the parts in which it differs."""

    config: Any

    @property
    def spec(self) -> CodeSpec:
        """One code per position out of K."""
        return CodeSpec(sizes=(self.config.codebook_size,), order="flat")

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses; in float32, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.encode(latents)
            chosen = self.lookup(codes)
            losses = self.losses(latents, chosen)
            estimated = self.estimated(latents, chosen)
            return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """Codes alone, of any number of vectors, without gradient."""
        flat = latents.reshape(-1, self.config.code_dim)
        return nearest(flat, self.codebook).reshape(latents.shape[:-1])

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Rows of the codebook."""
        return F.embedding(codes, self.codebook)

    def losses(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The pulls of codes and latents on each other."""
        return two_pulls(latents, chosen, self.config.weight, self.config.beta)

    def estimated(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        """`chosen` in value, with the gradient that the key `estimator` names."""
        return ESTIMATORS[self.config.estimator](latents, chosen)
