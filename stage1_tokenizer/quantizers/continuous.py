"""No quantization: the ceiling that every quantizer of the same autoencoder is measured against."""

from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import Count
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.spec import CodeSpec


@dataclass(frozen=True, kw_only=True)
class ContinuousConfig:
    """The width of the bottleneck."""

    method: Literal["continuous"] = "continuous"
    code_dim: Count = 128
    """Dimension of one latent vector, d."""


class Continuous(Quantizer):
    """Latents as they are, in float32. There are no codes: encode and lookup raise ValueError."""

    config_class = ContinuousConfig
    config: ContinuousConfig
    origin: Tensor

    @keywords_of(ContinuousConfig)
    def __init__(self, *given: ContinuousConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        self.register_buffer("origin", torch.zeros(1, self.config.code_dim), persistent=False)

    @property
    def spec(self) -> CodeSpec:
        """A single code, which says nothing."""
        return CodeSpec(sizes=(1,), order="flat", discrete=False)

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """One vector of zeros, for which nothing is ever exchanged."""
        return self.origin.float()

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """The latents, without losses; every code is 0."""
        codes = torch.zeros(latents.shape[:2], dtype=torch.int64, device=latents.device)
        return Quantized(latents, codes, {}, latents.detach().flatten(0, 1))

    def encode(self, latents: Float[Tensor, "*b d"]) -> NoReturn:
        """Raises ValueError."""
        raise ValueError(NO_CODES)

    def lookup(self, codes: Int[Tensor, "*b"]) -> NoReturn:
        """Raises ValueError."""
        raise ValueError(NO_CODES)


NO_CODES = (
    "a tokenizer with method=continuous has no codes, only reconstructions: "
    "train one with another model.quantizer.method"
)
