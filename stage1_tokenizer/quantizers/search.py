"""The nearest code of each vector, exactly, in memory that does not grow with N x K."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from common.precision import float32_products
from common.stopwatch import part
from stage1_tokenizer.quantizers.chunks import scores_at_once

COLUMNS = 1024
"""Most codes in a tile on a CPU: few, because then most tiles raise the maximum of few vectors."""
BLOCKS = 4
"""A part of the codebook is centred once for this many blocks of vectors, each of as many vectors as a tile."""


@part("search")
@torch.no_grad()
def nearest(
    latents: Float[Tensor, "*b d"], codebook: Float[Tensor, "k d"], tile: int | None = None
) -> Int[Tensor, "*b"]:
    """The code with the least Euclidean distance; of equal ones, but for rounding, the lowest.

    |z - c|^2 = |z|^2 - 2 (z . c - |c|^2 / 2), so the largest z . c - |c|^2 / 2 wins. Both sides are first
    centred on the codebook's mean, without which float32 has no digits left for vectors far from zero.
    Always in float32: autocast and, except in a compiled graph, TF32 and bfloat16 products are turned off. `tile` is
    the number of scores held at once.
    """
    with torch.autocast(latents.device.type, enabled=False):
        codebook = codebook.float()
        return _search(latents.float(), codebook, codebook.mean(0), tile)


@part("search")
@torch.no_grad()
def max_inner_product(
    latents: Float[Tensor, "*b d"], codebook: Float[Tensor, "k d"], tile: int | None = None
) -> Int[Tensor, "*b"]:
    """The code with the largest dot product; of equal ones, but for rounding, the lowest. Always in float32."""
    with torch.autocast(latents.device.type, enabled=False):
        return _search(latents.float(), codebook.float(), None, tile)


def _search(
    latents: Float[Tensor, "*b d"],
    codebook: Float[Tensor, "k d"],
    centre: Float[Tensor, " d"] | None,
    tile: int | None,
) -> Int[Tensor, "*b"]:
    """The code nearest to each vector, seen from `centre`; without one, that of the largest dot product."""
    if torch.compiler.is_exporting():  # a graph for any number of vectors has no tiles
        return _at_once(latents, codebook, centre)
    tile = tile or scores_at_once(latents.device) // 2  # two layouts of the same scores
    flat = latents.reshape(-1, latents.shape[-1])
    height = max(min(len(flat), tile // COLUMNS), 1)
    width = max(tile // height, 1)
    if latents.device.type == "cpu":
        width = min(width, COLUMNS)
    parts = flat.split(BLOCKS * height)
    with float32_products():
        codes = torch.cat([_codes(part, codebook, centre, height, width) for part in parts])
    return codes.reshape(latents.shape[:-1])


def _at_once(
    latents: Float[Tensor, "*b d"],
    codebook: Float[Tensor, "k d"],
    centre: Float[Tensor, " d"] | None,
) -> Int[Tensor, "*b"]:
    """The same, by all scores at once."""
    if centre is None:
        return F.linear(latents, codebook).argmax(-1)
    centred = codebook - centre
    return F.linear(latents - centre, centred, centred.square().sum(1) * -0.5).argmax(-1)


def _codes(
    latents: Float[Tensor, "n d"],
    codebook: Float[Tensor, "k d"],
    centre: Float[Tensor, " d"] | None,
    height: int,
    width: int,
) -> Int[Tensor, " n"]:
    """Tile by tile, `width` codes of the codebook for blocks of `height` vectors."""
    if centre is not None:
        latents = latents - centre
    blocks = [_fastest(block) for block in latents.split(height)] if len(latents) else []
    best = latents.new_full((len(latents),), -torch.inf)
    codes = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
    for first in range(0, len(codebook), width):
        some, added = codebook[first : first + width], None
        if centre is not None:
            some = some - centre
            added = some.square().sum(1).mul_(-0.5)
        states = zip(blocks, best.split(height), codes.split(height), strict=False)
        for block, block_best, block_codes in states:
            scores = F.linear(block, some, added)
            dense = scores.to_dense() if scores.is_mkldnn else scores
            _improve(dense, first, block_best, block_codes)
    return codes


def _fastest(block: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The block in the layout of oneDNN, where it is on: `linear` then takes oneDNN's float32 product.

    On an AMD processor it is faster than PyTorch's usual one on a CPU, MKL's.
    """
    if not eager_cpu(block):
        return block
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return block.to_mkldnn() if onednn else block


def _improve(
    scores: Float[Tensor, "n k"], first: int, best: Float[Tensor, " n"], codes: Int[Tensor, " n"]
) -> None:
    """Updates `best` and `codes` in place where a score of this tile, whose codes start at `first`, is higher.

    It must be strictly higher, so that the lowest of equal codes stays. On a CPU a maximum with its index costs ten
    times as much as without, so only vectors that change get an index search: few, after the first tiles.
    """
    if first and eager_cpu(scores):
        changed = (scores.amax(1) > best).nonzero().squeeze(1)
        best[changed], places = scores[changed].max(1)
        codes[changed] = places + first
    else:
        values, places = scores.max(1)
        better = values > best
        best.copy_(torch.where(better, values, best))
        codes.copy_(torch.where(better, places + first, codes))


def eager_cpu(x: Tensor) -> bool:
    """Whether x is on a CPU outside torch.compile, whose graphs can't hold oneDNN layouts or data-dependent sizes."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
