"""The nearest code of each vector, exactly, in memory that does not grow with N x K."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.stopwatch import part

TILE = {"cpu": 2**21, "cuda": 2**26, "mps": 2**24}
"""Scores held at once, by device: 8 MB, 256 MB, 64 MB."""


@part("search")
@torch.no_grad()
def nearest(
    latents: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], tile: int | None = None
) -> Int[Tensor, " n"]:
    """The code with the least Euclidean distance; of equal ones, the lowest.

    |z - c|^2 = |z|^2 - 2 (z . c - |c|^2 / 2), so the largest z . c - |c|^2 / 2 wins. Both sides are first
    centred on the codebook's mean, without which float32 has no digits left for vectors far from zero.
    Always in float32, whatever the autocast. `tile` is the number of scores held at once.
    """
    with torch.autocast(latents.device.type, enabled=False):
        latents, codebook = latents.float(), codebook.float()
        centre = codebook.mean(0)
        codebook = codebook - centre
        half_norms = codebook.square().sum(1).mul_(-0.5)
        return _search(latents, centre, codebook, half_norms, tile)


@part("search")
@torch.no_grad()
def most_alike(
    latents: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], tile: int | None = None
) -> Int[Tensor, " n"]:
    """The code with the largest dot product; of equal ones, the lowest. Always in float32."""
    with torch.autocast(latents.device.type, enabled=False):
        latents, codebook = latents.float(), codebook.float()
        nothing = codebook.new_zeros(1)
        return _search(latents, nothing, codebook, nothing.expand(len(codebook)), tile)


def _search(
    latents: Float[Tensor, "n d"],
    centre: Float[Tensor, " _"],
    codebook: Float[Tensor, "k d"],
    added: Float[Tensor, " k"],
    tile: int | None,
) -> Int[Tensor, " n"]:
    """The code with the largest (z - centre) . c + added."""
    tile = tile or TILE.get(latents.device.type, 2**22)
    columns = min(len(codebook), max(int(tile**0.5) * 4, 1))
    rows = min(len(latents), max(tile // columns, 1))
    buffer = latents.new_empty(rows * columns)
    codes = torch.empty(len(latents), dtype=torch.int64, device=latents.device)
    for start in range(0, len(latents), rows):
        block = latents[start : start + rows] - centre
        codes[start : start + rows] = _best(block, codebook, added, columns, buffer)
    return codes


def _best(
    block: Float[Tensor, "n d"],
    codebook: Float[Tensor, "k d"],
    added: Float[Tensor, " k"],
    columns: int,
    buffer: Float[Tensor, " tile"],
) -> Int[Tensor, " n"]:
    """The running maximum over tiles of `columns` codes."""
    best = codes = None
    for start in range(0, len(codebook), columns):
        part = codebook[start : start + columns]
        scores = buffer[: len(block) * len(part)].view(len(block), len(part))
        torch.addmm(added[start : start + columns], block, part.T, out=scores)
        values, found = scores.max(1)
        if best is None or codes is None:
            best, codes = values, found
        else:
            better = values > best  # strictly: of equal codes the lowest stays
            best = torch.where(better, values, best)
            codes = torch.where(better, found + start, codes)
    assert codes is not None
    return codes
