"""Vectors of a batch with which a codebook can start."""

import torch
from jaxtyping import Float
from torch import Tensor


def drawn(
    vectors: Float[Tensor, "n d"], count: int, generator: torch.Generator | None = None
) -> Float[Tensor, "k d"]:
    """`count` of the vectors at random; where they are fewer, each several times, a little apart.

    The distance is a hundredth of the vectors' spread. The default generator is that of the CPU.
    """
    order = torch.randperm(len(vectors), generator=generator)
    places = order.repeat(-(-count // len(vectors)))[:count].to(vectors.device)
    chosen = vectors[places]
    if count > len(vectors):
        apart = torch.randn(chosen.shape, generator=generator).to(chosen)
        spread = vectors.std(0, correction=0).mean()
        apart[: len(vectors)] = 0
        chosen = chosen + 0.01 * spread * apart
    return chosen
