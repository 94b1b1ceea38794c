"""Residual quantization: the codes of one position refine each other, level after level."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.precision import float32_products
from stage1_tokenizer.quantizers.base import Quantizer
from stage1_tokenizer.quantizers.spec import CodeSpec


class ResidualQuantizer(Quantizer, ABC):
    """Vectors to one code per level, each the best addition to the sum of those before it."""

    @abstractmethod
    def best(
        self, level: int, left: Float[Tensor, "n d"], sums: Float[Tensor, "n d"]
    ) -> Int[Tensor, " n"]:
        """The codes whose vectors are nearest to what is left of the vectors after these sums."""

    @abstractmethod
    def added(
        self, level: int, codes: Int[Tensor, "*b"], sums: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b d"]:
        """The vectors that a level's codes add to these sums."""

    @property
    def spec(self) -> CodeSpec:
        """One code out of K for each level."""
        return CodeSpec(sizes=(self.config.codebook_size,) * self.config.levels, order="residual")

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b levels"]:
        """Codes level by level."""
        with float32_products():
            flat = latents.reshape(-1, latents.shape[-1])
            sums = torch.zeros_like(flat)
            codes = []
            for level in range(self.config.levels):
                codes.append(self.best(level, flat - sums, sums))
                sums = sums + self.added(level, codes[-1], sums)
            return torch.stack(codes, -1).reshape(*latents.shape[:-1], self.config.levels)

    def lookup(self, codes: Int[Tensor, "*b levels"]) -> Float[Tensor, "*b d"]:
        """The sum over all levels."""
        return self.sums(codes)[-1]

    def sums(self, codes: Int[Tensor, "*b m"]) -> list[Float[Tensor, "*b d"]]:
        """The sum after each level of the first m: what a prefix of the codes stands for."""
        with torch.autocast(codes.device.type, enabled=False):
            total = torch.zeros(*codes.shape[:-1], self.config.code_dim, device=codes.device)
            sums = []
            for level in range(codes.shape[-1]):
                total = total + self.added(level, codes[..., level], total)
                sums.append(total)
            return sums


class LevelQuantizers(ResidualQuantizer):
    """Each level is a quantizer of its own, which sees only the residual, not the sum so far."""

    @abstractmethod
    def level(self, level: int) -> Quantizer:
        """The quantizer of a level."""

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The first level's."""
        return self.level(0).codebook

    def best(
        self, level: int, left: Float[Tensor, "n d"], sums: Float[Tensor, "n d"]
    ) -> Int[Tensor, " n"]:
        """The nearest to what is left."""
        return self.level(level).encode(left)

    def added(
        self, level: int, codes: Int[Tensor, "*b"], sums: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b d"]:
        """The level's code vectors."""
        return self.level(level).lookup(codes)
