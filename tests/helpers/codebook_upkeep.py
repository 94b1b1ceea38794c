"""A step of a codebook that is kept up without an optimizer."""

import torch
from torch import Tensor

from stage1_tokenizer.quantizers import Quantizer

FAR = 100.0
"""Where a code is put that no vector of a test shall choose."""


def vectors(count: int, dim: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def is_one_of(table: Tensor, among: Tensor) -> Tensor:
    """Whether each vector of `table` is exactly one of `among`."""
    return (table[:, None] == among[None]).all(2).any(1)


def upkeep_step(quantizer: Quantizer, latents: Tensor) -> Tensor:
    """One step without an optimizer; returns the codes."""
    codes = quantizer.encode(latents)
    quantizer.accumulate(latents, codes)
    quantizer.after_step()
    return codes
