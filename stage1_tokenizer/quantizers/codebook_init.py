"""How a codebook begins: at random, as vectors of the first batch, or as their k-means centres."""

import torch
from jaxtyping import Float
from torch import Tensor

from common.processes import broadcast_from_first
from common.seeding import generator_at
from stage1_tokenizer.quantizers.search import nearest

SEED = 2
"""Of the choice where no generator is given: the same vectors on all processes."""


def random_codebook(size: int, dim: int, init: str = "normal") -> Float[Tensor, "k d"]:
    """Codes uniform in +-1/K where `init` is `uniform`, else from N(0, 1)."""
    if init == "uniform":
        return (torch.rand(size, dim) * 2 - 1) / size
    return torch.randn(size, dim)


def sample_vectors(
    vectors: Float[Tensor, "n d"], count: int, generator: torch.Generator | None = None
) -> Float[Tensor, "k d"]:
    """`count` of the vectors at random. If there are fewer, they repeat, with noise of a hundredth of their spread.

    Without a generator the choice is always the same.
    """
    generator = generator or generator_at(SEED, 0)
    order = torch.randperm(len(vectors), generator=generator)
    indices = order.repeat(-(-count // len(vectors)))[:count].to(vectors.device)
    sampled = vectors[indices]
    if count > len(vectors):
        apart = torch.randn(sampled.shape, generator=generator).to(sampled)
        spread = vectors.std(0, correction=0).mean()
        apart[: len(vectors)] = 0
        sampled = sampled + 0.01 * spread * apart
    return sampled


def left_over(residuals: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """The residuals without those of vectors that became codes, which are zero; all, where no other is left."""
    others = residuals[residuals.any(1)]
    return others if len(others) else residuals


@torch.no_grad()
def k_means(vectors: Float[Tensor, "n d"], count: int, rounds: int = 10) -> Float[Tensor, "k d"]:
    """Centres after some rounds of Lloyd's algorithm from vectors at random; an empty one stays."""
    centres = sample_vectors(vectors, count)
    for _ in range(rounds):
        codes = nearest(vectors, centres)
        sums = torch.zeros_like(centres).index_add_(0, codes, vectors)
        counts = vectors.new_zeros(count).index_add_(0, codes, torch.ones_like(vectors[:, 0]))
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centres)
    return broadcast_from_first(centres)
