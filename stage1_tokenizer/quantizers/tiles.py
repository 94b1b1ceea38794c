"""What needs all N x K scores, a tile at a time, with gradients."""

from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stage1_tokenizer.quantizers.search import TILE

Result = TypeVar("Result")


def in_tiles(
    function: Callable[[Tensor], Result],
    latents: Float[Tensor, "n d"],
    codebook_size: int,
    tile: int | None = None,
) -> list[Result]:
    """`function` of consecutive parts of the vectors, none of which has more than `tile` scores.

    Where there are several parts, each part's scores are computed again in the backward pass, with the
    same noise, instead of being kept.
    """
    tile = tile or TILE.get(latents.device.type, 2**22)
    rows = max(tile // codebook_size, 1)
    if len(latents) <= rows:
        return [function(latents)]
    return [checkpoint(function, part, use_reentrant=False) for part in latents.split(rows)]
