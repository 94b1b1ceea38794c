"""Measures of a codebook and of the latents that choose from it, of any project."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stage1_tokenizer.codebook_usage import effective_rank, perplexity, used
from stage1_tokenizer.quantizers.search import nearest

DUPLICATE = 1e-10
"""Two codes are the same where their squared distance is below this share of the codebook's variance."""
SAMPLED = 8192
"""Latents and codes between which distances are looked for."""


def position_share(
    latents: Float[Tensor, "b n d"], counts: Int[Tensor, " b"] | None = None
) -> float:
    """The share of the latents' variance that their position alone explains, 0 for none and 1 for all.

    Kelley's epsilon squared: corrected for the number of items, so that latents that have nothing to do
    with their position give about 0 whatever b is. `counts` says how many of an item's positions count.
    """
    b, n, _ = latents.shape
    latents = latents.detach().double().cpu()
    inside = torch.ones(b, n, dtype=torch.bool)
    if counts is not None:
        inside = torch.arange(n) < counts.cpu()[:, None]
    weight = inside.double()[..., None]
    items = weight.sum(0)
    means = (latents * weight).sum(0) / items.clamp_min(1)
    centre = (latents * weight).sum((0, 1)) / items.sum()
    between = float((items * (means - centre).square()).sum())
    total = float(((latents - centre).square() * weight).sum())
    within_freedom = float(items.sum() - (items > 0).sum())
    if total == 0:
        return 1.0
    if within_freedom <= 0:
        return 0.0
    within = (total - between) / within_freedom
    return max(1 - within / (total / (float(items.sum()) - 1)), 0.0)


@dataclass(frozen=True, kw_only=True)
class CodebookHealth:
    """What latents and the codes that they chose say of a codebook."""

    vectors: int
    """Latents that were looked at."""
    size: int
    """K."""
    dim: int
    """d."""
    used: float
    """Share of the K codes that some latent chose."""
    perplexity: float
    rank: float
    """Effective rank of the codebook, of d."""
    latents_rank: float
    """The same of the latents."""
    latents_scale: float
    """Root mean square distance of the latents from their mean."""
    scale: float
    """That of the codes from theirs, in units of the latents'."""
    offset: float
    """Distance of the two means, in units of the latents' scale."""
    error: float
    """Mean squared distance of a latent to its code, in units of the latents' variance."""
    dead_distance: float | None
    """Median distance of a code that none chose to its nearest latent, in units of the latents' scale; None
    where there is no such code."""
    duplicates: float
    """Share of the codes that equal an earlier one."""
    position: float | None = None
    """Share of the latents' variance by position alone; None where positions are unknown."""


@torch.no_grad()
def codebook_health(
    latents: Float[Tensor, "n d"],
    codebook: Float[Tensor, "k d"],
    codes: Int[Tensor, " n"] | None = None,
    position: float | None = None,
) -> CodebookHealth:
    """The measures; `codes` are the latents' own where they are not simply the nearest rows."""
    latents, codebook = latents.float(), codebook.float()
    codes = nearest(latents, codebook) if codes is None else codes
    counts = codes.bincount(minlength=len(codebook))
    centre = latents.mean(0)
    scale = (latents - centre).square().sum(1).mean().sqrt().clamp_min(1e-20)
    spread = (codebook - codebook.mean(0)).square().sum(1).mean().sqrt()
    distances = (latents - codebook[codes]).square().sum(1)
    return CodebookHealth(
        vectors=len(latents),
        size=len(codebook),
        dim=codebook.shape[1],
        used=used(counts),
        perplexity=perplexity(counts),
        rank=effective_rank(codebook),
        latents_rank=effective_rank(latents),
        latents_scale=float(scale),
        scale=float(spread / scale),
        offset=float((codebook.mean(0) - centre).norm() / scale),
        error=float(distances.mean() / scale.square()),
        dead_distance=_dead_distance(latents, codebook[counts == 0], scale),
        duplicates=_duplicates(codebook),
        position=position,
    )


def _dead_distance(
    latents: Float[Tensor, "n d"], dead: Float[Tensor, "k d"], scale: Tensor
) -> float | None:
    if not len(dead):
        return None
    dead, latents = _some(dead), _some(latents)
    closest = latents[nearest(dead, latents)]
    return float((dead - closest).norm(dim=1).median() / scale)


def _some(rows: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """At most 8,192 rows, spread over all."""
    return rows[:: -(-len(rows) // SAMPLED)]


def _duplicates(codebook: Float[Tensor, "k d"]) -> float:
    """The share of the rows that, to a hundred-thousandth of the codebook's spread, stood there before."""
    centred = codebook - codebook.mean(0)
    step = (DUPLICATE * centred.square().sum(1).mean()).sqrt()
    if step == 0:
        return 1 - 1 / len(codebook)
    cells = (centred / step).round()
    return 1 - len(cells.unique(dim=0)) / len(codebook)
