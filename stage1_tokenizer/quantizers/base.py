"""What every quantizer takes and gives: vectors in, codes and losses out."""

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class CodeSpec:
    """What a prior must know of the codes of one position."""

    sizes: tuple[int, ...]
    """The alphabet of each code of a position: one for most quantizers, D of them for a residual one."""
    order: Literal["flat", "residual", "factorised"]
    """Whether codes are alone, refine each other, or are independent factors."""

    @property
    def bits(self) -> float:
        """Information of one position when every code is equally likely."""
        return sum(math.log2(size) for size in self.sizes)


@dataclass
class Quantized:
    """The result of a quantizer's forward."""

    latents: Float[Tensor, "b n d"]
    """The chosen vectors, with the gradient estimator's path to the encoder."""
    codes: Int[Tensor, "b n *levels"]
    losses: dict[str, Float[Tensor, ""]]
    """Named scalars, already weighted."""

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of `losses`."""
        return sum(self.losses.values(), start=self.latents.new_zeros(()))
