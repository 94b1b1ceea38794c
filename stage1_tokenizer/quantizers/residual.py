"""The loops of residual quantization: the codes of one position refine each other, level after level."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Best = Callable[[int, Tensor, Tensor], Tensor]
"""Of a level, what is left of the vectors, and the sums so far: the code whose vector is nearest to what is
left."""
Added = Callable[[int, Tensor, Tensor], Tensor]
"""Of a level, its codes, and the sums so far: the vectors that the codes add to the sums."""


@torch.no_grad()
def encode_levels(
    latents: Float[Tensor, "*b d"], levels: int, best: Best, added: Added
) -> Int[Tensor, "*b levels"]:
    """One code per level, each the best addition to the sum of those before it, without gradient."""
    with torch.autocast(latents.device.type, enabled=False):
        flat = latents.reshape(-1, latents.shape[-1]).float()
        sums = torch.zeros_like(flat)
        codes = []
        for level in range(levels):
            codes.append(best(level, flat - sums, sums))
            sums = sums + added(level, codes[-1], sums)
        return torch.stack(codes, -1).reshape(*latents.shape[:-1], -1)


def partial_sums(codes: Int[Tensor, "*b m"], dim: int, added: Added) -> list[Float[Tensor, "*b d"]]:
    """The sum after each level of the first m: what a prefix of the codes stands for."""
    with torch.autocast(codes.device.type, enabled=False):
        total = torch.zeros(*codes.shape[:-1], dim, device=codes.device)
        sums = []
        for level in range(codes.shape[-1]):
            total = total + added(level, codes[..., level], total)
            sums.append(total)
        return sums


def check_levels(levels: int, codebook_size: int) -> None:
    """Raises ValueError unless there are at least two of each."""
    if levels < 2 or codebook_size < 2:
        raise ValueError(
            f"levels={levels} and codebook_size={codebook_size} must be at least 2: set "
            "model.quantizer.levels or model.quantizer.codebook_size"
        )
