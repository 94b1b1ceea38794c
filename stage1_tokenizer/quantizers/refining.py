"""What quantizers share whose codes of one position refine each other."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer
from stage1_tokenizer.quantizers.estimators import straight_through


class RefiningQuantizer(Quantizer):
    """Vectors to one code per level, each the best addition to the sum of those before it."""

    config: Any

    @property
    def spec(self) -> CodeSpec:
        """One code out of K for each level."""
        return CodeSpec(sizes=(self.config.codebook_size,) * self.config.levels, order="residual")

    @abstractmethod
    def best(
        self, level: int, wanted: Float[Tensor, "n d"], sums: Float[Tensor, "n d"]
    ) -> Int[Tensor, " n"]:
        """The code whose vector is nearest to what is wanted beside the sums so far."""

    @abstractmethod
    def vectors(
        self, level: int, codes: Int[Tensor, "*b"], sums: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b d"]:
        """What a level's codes add to the sums so far."""

    @abstractmethod
    def losses(
        self, latents: Float[Tensor, "b n d"], sums: list[Float[Tensor, "b n d"]]
    ) -> dict[str, Float[Tensor, ""]]:
        """The pulls between the latents and the sums after each level."""

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, the last level's sums and the losses; in float32, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.encode(latents)
            sums = self.sums(codes)
            estimated = straight_through(latents, sums[-1])
            losses = self.losses(latents, sums)
            return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b levels"]:
        """Codes alone, level by level, without gradient."""
        with torch.autocast(latents.device.type, enabled=False):
            flat = latents.reshape(-1, self.config.code_dim).float()
            sums = torch.zeros_like(flat)
            codes = []
            for level in range(self.config.levels):
                codes.append(self.best(level, flat - sums, sums))
                sums = sums + self.vectors(level, codes[-1], sums)
            return torch.stack(codes, -1).reshape(*latents.shape[:-1], -1)

    def lookup(self, codes: Int[Tensor, "*b levels"]) -> Float[Tensor, "*b d"]:
        """The sum over all levels."""
        with torch.autocast(codes.device.type, enabled=False):
            return self.sums(codes)[-1]

    def sums(self, codes: Int[Tensor, "*b m"]) -> list[Float[Tensor, "*b d"]]:
        """The sum after each level of the first m: what a prefix of the codes stands for."""
        total = self.codebook.new_zeros(*codes.shape[:-1], self.config.code_dim)
        found = []
        for level in range(codes.shape[-1]):
            total = total + self.vectors(level, codes[..., level], total)
            found.append(total)
        return found


def check_levels(levels: int, codebook_size: int) -> None:
    """Raises ValueError unless there are at least two of each."""
    if levels < 2 or codebook_size < 2:
        raise ValueError(
            f"levels={levels} and codebook_size={codebook_size} must be at least 2: set "
            "model.quantizer.levels or model.quantizer.codebook_size"
        )
