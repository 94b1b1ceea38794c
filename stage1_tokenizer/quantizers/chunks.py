"""What needs all N x K scores of vectors and codes, computed a chunk at a time."""

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SCORES = {"cpu": 2**21, "cuda": 2**26, "mps": 2**24}
"""Scores held at once, by device: 8 MB, 256 MB, 64 MB."""

Result = TypeVar("Result")


def scores_at_once(device: torch.device) -> int:
    """How many scores a chunk may have on this device."""
    return SCORES.get(device.type, 2**22)


def in_chunks(
    function: Callable[[Tensor], Result],
    latents: Float[Tensor, "n d"],
    codebook_size: int,
    most: int | None = None,
) -> list[Result]:
    """`function` of consecutive parts of the vectors, of at most `most` scores each, with gradient checkpointing."""
    count = max((most or scores_at_once(latents.device)) // codebook_size, 1)
    if len(latents) <= count:
        return [function(latents)]
    return [checkpoint(function, part, use_reentrant=False) for part in latents.split(count)]
