"""FSQ: each channel rounded to one of a few levels; no codebook is learned (arXiv 2309.15505).

iFSQ (arXiv 2601.17124) bounds a channel x by 2 sigmoid(1.6 x) - 1, so that a normally distributed x uses all levels
equally. This is tanh(0.8 x): FSQ with a gain of 0.8.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import Count, Positive
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.estimators import straight_through
from stage1_tokenizer.quantizers.spec import CodeSpec, check_codes

MARGIN = 1e-3
"""Share by which tanh's range exceeds the end levels, so that they can be reached."""
LARGEST = 2**22
"""Codes that a fixed codebook may have: counts of all of them are kept."""


@dataclass(frozen=True, kw_only=True)
class FSQConfig:
    """The levels, and what the tanh before them sees."""

    method: Literal["fsq"] = "fsq"
    levels: tuple[Count, ...] = (8, 5, 5, 5)
    """Levels of each channel, at least 3 (with 2, a zero latent would lie deep inside the upper level). The number of
    codes is their product. The paper has 8,6,5 for 2^8, 8,5,5,5 for 2^10, 7,5,5,5,5 for 2^12, 8,8,8,6,5 for 2^14 and
    8,8,8,5,5,5 for 2^16."""
    gain: Positive = 1.0
    """What latents are multiplied by before the tanh: 1 is FSQ, 0.8 iFSQ."""

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3 or max(self.levels) > 256:
            raise ValueError(
                f"levels={self.levels} must be one or more integers from 3 to 256: set model.quantizer.levels"
            )
        if math.prod(self.levels) > LARGEST:
            raise ValueError(
                f"levels={self.levels} make {math.prod(self.levels)} codes, more than {LARGEST}: "
                "set model.quantizer.levels"
            )

    @property
    def code_dim(self) -> int:
        """One channel per entry of `levels`; the encoder's last layer projects to this few."""
        return len(self.levels)


class FSQ(Quantizer):
    """Vectors to the nearest point of a fixed grid in [-1, 1]^d: round(f(z)) / floor(l / 2) for a channel of l levels.

    f is a scaled tanh (`_bounded`), shifted for even l so that zero is a level. The shift is computed with atanh
    (tan in the authors' notebook). Their tanh stops just short of the end levels; here it goes just beyond.

        >>> quantizer = FSQ(levels=(8, 5, 5))
        >>> latents, codes, loss = quantizer(torch.randn(2, 5, 3))
        >>> codes.shape
        torch.Size([2, 5])
    """

    config_class = FSQConfig
    config: FSQConfig
    sizes: Tensor
    strides: Tensor

    @keywords_of(FSQConfig)
    def __init__(self, *given: FSQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        levels = self.config.levels
        strides = [math.prod(levels[:channel]) for channel in range(len(levels))]
        self.register_buffer("sizes", torch.tensor(levels), persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    @property
    def spec(self) -> CodeSpec:
        """One code per position, whose digits are the levels of the channels, the first least significant."""
        return CodeSpec(sizes=(math.prod(self.config.levels),), order="flat")

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """Every point of the grid."""
        return self.lookup(torch.arange(self.spec.alphabet, device=self.sizes.device))

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes and rounded latents (section 3.1), without losses."""
        bounded = self._bounded(latents)
        rounded = bounded.round()
        estimated = straight_through(bounded, rounded) / (self.sizes // 2)
        codes = self._codes(rounded)
        return Quantized(estimated, codes, {}, latents.detach().flatten(0, 1))

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The codes of the nearest points."""
        return self._codes(self._bounded(latents).round())

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """The grid's points, from their digits. Raises ValueError for codes outside the alphabet."""
        check_codes(codes, self.spec)
        digits = codes[..., None] // self.strides % self.sizes
        half = self.sizes // 2
        return (digits - half).float() / half

    def _bounded(self, latents: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Within the levels: -floor(l / 2) to floor((l - 1) / 2), zero where the latent is zero."""
        half = (self.sizes - 1) * (1 + MARGIN) / 2
        offset = (self.sizes % 2 == 0) * 0.5
        return torch.tanh(self.config.gain * latents + torch.atanh(offset / half)) * half - offset

    def _codes(self, rounded: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        digits = (rounded.long() + self.sizes // 2).clamp_min(0)  # of nan, the least integer
        return (digits * self.strides).sum(-1)
