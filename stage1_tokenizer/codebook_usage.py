"""Measures of a codebook and of the latents that choose from it: use, rank, errors, what position explains."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stage1_tokenizer.quantizers import CodeSpec, Quantizer
from stage1_tokenizer.quantizers.search import nearest

WINDOW = 65_536
"""Codes over which `used` and `perplexity` are stated in the log."""
DUPLICATE = 1e-10
"""Two codes are the same where their squared distance is below this share of the codebook's variance."""
ONE_NORM = 1e-5
"""Norms are the same where they differ by less than this share: a rounding."""
SAMPLED = 8192
"""Latents and codes between which distances are looked for."""


def used(counts: Int[Tensor, " k"]) -> float:
    """The share of the codes that were chosen at least once."""
    return float((counts > 0).float().mean())


def code_counts(codes: Int[Tensor, "..."], spec: CodeSpec) -> Int[Tensor, " k"]:
    """How often each code was chosen, the levels' alphabets one after the other.

    `codes` are those of whole positions, with or without a dimension of levels.
    """
    by_level = codes.reshape(-1, spec.levels) + torch.tensor(spec.starts, device=codes.device)
    return by_level.flatten().bincount(minlength=sum(spec.sizes))


def perplexity(counts: Int[Tensor, " k"]) -> float:
    """exp(entropy) of the codes' frequencies: how many equally likely codes would carry as much."""
    return float(torch.exp(entropy(counts)))


def entropy(counts: Int[Tensor, " k"]) -> Float[Tensor, ""]:
    """Entropy of the codes' frequencies, in nats."""
    counts = counts.cpu().double()  # MPS has no float64
    frequencies = counts / counts.sum().clamp_min(1)
    return torch.special.entr(frequencies).sum().float()


def effective_rank(codebook: Float[Tensor, "k d"]) -> float:
    """exp(entropy) of the centred codebook's singular values, whose sum is made 1 (Roy & Vetterli 2007)."""
    vectors = codebook.cpu().double()
    centred = vectors - vectors.mean(0)
    covariance = centred.T @ centred
    eigenvalues = torch.linalg.eigvalsh(covariance)
    singular = eigenvalues.clamp_min(0).sqrt()
    normalised = singular / singular.sum().clamp_min(1e-30)
    return float(torch.exp(torch.special.entr(normalised).sum()))


@torch.no_grad()
def quantization_error(quantizer: Quantizer, latents: Float[Tensor, "b n d"]) -> float:
    """Mean squared difference of vectors and their codes' vectors, in units of the vectors' variance.

    It says little about a quantizer that first maps vectors to a sphere or a grid (FC, BSQ, SQ-VAE's vMF, FSQ): it
    compares the vectors before that map.
    """
    if quantizer.spec.has_codes:
        chosen = quantizer.lookup(quantizer.encode(latents))
    else:
        chosen = quantizer(latents).latents
    centred = latents.float() - latents.float().mean((0, 1))
    return float((latents - chosen).square().mean() / centred.square().mean().clamp_min(1e-20))


class CodebookUse:
    """Counts of the last 65,536 codes and of those of the epoch, kept on the device.

    A position past an item's end, where the code is -1, takes a place but is not counted. Several codes
    of one position are counted level by level, each in an alphabet of its own.
    """

    def __init__(self, spec: CodeSpec, device: torch.device) -> None:
        codebook_size = sum(spec.sizes)
        self.starts = torch.tensor(spec.starts, device=device)
        self.window = torch.full((WINDOW,), -1, dtype=torch.int64, device=device)
        self.epoch_counts = torch.zeros(codebook_size, dtype=torch.int64, device=device)
        self.last_counts = self.epoch_counts.clone()
        self.written = self.epoch = 0

    @torch.no_grad()
    def update(self, codes: Int[Tensor, "*b"], epoch: int) -> None:
        """Takes in the codes of one step, of all processes."""
        if epoch != self.epoch:
            self.last_counts, self.epoch = self.epoch_counts, epoch
            self.epoch_counts = torch.zeros_like(self.last_counts)
        if len(self.starts) > 1:
            codes = torch.where(codes >= 0, codes + self.starts, -1)
        codes = codes.reshape(-1)
        inside = codes >= 0  # counted with weights, for a selection would wait for the device
        self.epoch_counts.scatter_add_(0, codes.clamp(min=0), inside.long())
        codes = codes[-WINDOW:]
        places = (self.written + torch.arange(len(codes), device=codes.device)) % WINDOW
        self.window[places] = codes
        self.written += len(codes)

    def metrics(self) -> dict[str, float]:
        """`used` and `perplexity` of the window, `used` of the last whole epoch (of this one, in the first)."""
        size = len(self.epoch_counts)
        chosen = self.window[self.window >= 0]
        counts = torch.bincount(chosen, minlength=size)
        epoch_counts = self.last_counts if self.epoch else self.epoch_counts
        return {
            "codebook/used": used(counts),
            "codebook/perplexity": perplexity(counts),
            "codebook/positions": len(chosen) // len(self.starts),
            "codebook/used_epoch": used(epoch_counts),
            "codebook/positions_epoch": int(epoch_counts.sum()) // len(self.starts),
        }

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        device = self.window.device
        for name, value in state_dict.items():
            setattr(self, name, value.to(device) if isinstance(value, Tensor) else value)


def position_share(
    latents: Float[Tensor, "b n d"], counts: Int[Tensor, " b"] | None = None
) -> float:
    """The share of the latents' variance that their position alone explains, 0 for none and 1 for all.

    Kelley's epsilon squared: corrected for the number of items, so that latents that have nothing to do
    with their position give about 0 whatever b is. `counts` says how many of an item's positions count.
    """
    b, n, _ = latents.shape
    latents = latents.detach().cpu().double()
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
    """Effective rank of the codebook, at most d."""
    latents_rank: float
    """Effective rank of the latents, at most d."""
    latents_scale: float
    """Root mean square distance of the latents from their mean."""
    scale: float
    """Root mean square distance of the codes from their mean, in units of `latents_scale`."""
    offset: float
    """Distance between the means of codes and latents, in units of `latents_scale`."""
    error: float
    """Mean squared distance of a latent to its code, in units of the latents' variance."""
    dead_distance: float | None
    """Median distance of a code that none chose to its nearest latent, in units of the latents' scale; None
    where there is no such code."""
    duplicates: float
    """Share of the codes that equal an earlier one."""
    one_norm: bool
    """Whether all codes have one norm, so that which one is nearest depends on a latent's direction alone."""
    position: float | None = None
    """Share of the latents' variance by position alone; None where positions are unknown."""


@torch.no_grad()
def codebook_health(
    latents: Float[Tensor, "n d"],
    codebook: Float[Tensor, "k d"],
    codes: Int[Tensor, " n"] | None = None,
    position: float | None = None,
) -> CodebookHealth:
    """The measures; `codes` are the codes of the latents, by default the nearest entries of the codebook."""
    latents, codebook = latents.float(), codebook.float()
    codes = nearest(latents, codebook) if codes is None else codes
    counts = codes.bincount(minlength=len(codebook))
    centre = latents.mean(0)
    scale = (latents - centre).square().sum(1).mean().sqrt().clamp_min(1e-20)
    spread = (codebook - codebook.mean(0)).square().sum(1).mean().sqrt()
    distances = (latents - codebook[codes]).square().sum(1)
    norms = codebook.norm(dim=1)
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
        one_norm=bool(norms.max() - norms.min() <= ONE_NORM * norms.max()),
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


def _some(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """At most 8,192 vectors, spread over all."""
    return vectors[:: -(-len(vectors) // SAMPLED)]


def _duplicates(codebook: Float[Tensor, "k d"]) -> float:
    """The share of the entries that, to a hundred-thousandth of the codebook's spread, equal an earlier one."""
    centred = codebook - codebook.mean(0)
    step = (DUPLICATE * centred.square().sum(1).mean()).sqrt()
    if step == 0:
        return 1 - 1 / len(codebook)
    cells = (centred / step).round()
    return 1 - len(cells.unique(dim=0)) / len(codebook)
