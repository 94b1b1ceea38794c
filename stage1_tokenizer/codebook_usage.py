"""How much of the codebook is used: over a window of positions, over an epoch, and in rank."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stage1_tokenizer.quantizers import CodeSpec, Quantizer

WINDOW = 65_536
"""Positions over which `used` and `perplexity` are stated in the log."""


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
    """exp(entropy) of the codes' shares: how many equally likely codes would carry as much."""
    return float(torch.exp(entropy(counts)))


def entropy(counts: Int[Tensor, " k"]) -> Float[Tensor, ""]:
    """Entropy of the codes' shares, in nats."""
    counts = counts.cpu().double()  # MPS has no float64
    shares = counts / counts.sum().clamp_min(1)
    return torch.special.entr(shares).sum().float()


def effective_rank(codebook: Float[Tensor, "k d"]) -> float:
    """exp(entropy) of the shares of the centred codebook's singular values (Roy & Vetterli 2007)."""
    centred = codebook - codebook.mean(0)
    covariance = (centred.T @ centred).cpu().double()
    eigenvalues = torch.linalg.eigvalsh(covariance)
    singular = eigenvalues.clamp_min(0).sqrt()
    shares = singular / singular.sum().clamp_min(1e-30)
    return float(torch.exp(torch.special.entr(shares).sum()))


@torch.no_grad()
def quantization_error(quantizer: Quantizer, latents: Float[Tensor, "b n d"]) -> float:
    """Mean squared difference of vectors and their codes' vectors, in units of the vectors' variance."""
    chosen = quantizer(latents).latents
    centred = latents.float() - latents.float().mean((0, 1))
    return float((latents - chosen).square().mean() / centred.square().mean().clamp_min(1e-20))


class CodebookUse:
    """Counts of the codes of the last 65,536 positions and of the epoch, kept on the device.

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
