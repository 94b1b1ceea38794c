"""Soft assignment: a mixture of all codes, sampled with Gumbel noise, and how far its probabilities are spread."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stage1_tokenizer.quantizers.chunks import in_chunks


class SoftAssignment(NamedTuple):
    """Of vectors to codes with probabilities proportional to exp(-precision |z - c|^2)."""

    mixed: Float[Tensor, "n d"]
    """A Gumbel-softmax sample of each vector's code; its gradient reaches encoder and codes."""
    divergence: Float[Tensor, ""]
    """KL divergence of the codes' probabilities from uniform ones, in nats, summed over the vectors."""
    distance: Float[Tensor, ""]
    """Expected squared distance to the code, summed over the vectors."""


def soft_assignment(
    latents: Float[Tensor, "n d"],
    codebook: Float[Tensor, "k d"],
    precision: Float[Tensor, ""],
    temperature: Float[Tensor, ""],
) -> SoftAssignment:
    """The mixtures at this temperature, and both sums; all N x K probabilities, a chunk at a time."""

    def part(some: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor, Tensor]:
        centre = codebook.detach().mean(0)
        z, c = some - centre, codebook - centre
        scores = z @ c.T - c.square().sum(1) / 2  # (|z|^2 - |z - c|^2) / 2
        logits = 2 * precision * scores
        logs = torch.log_softmax(logits, dim=1)
        probabilities = logs.exp()
        divergence = (probabilities * logs).sum() + len(some) * math.log(len(codebook))
        distance = z.square().sum() - 2 * (probabilities * scores).sum()
        noise = -torch.empty_like(logits).exponential_().log()
        mixed = torch.softmax((logits + noise) / temperature, dim=1) @ codebook
        return mixed, divergence, distance

    mixed, divergence, distance = zip(*in_chunks(part, latents, len(codebook)), strict=True)
    return SoftAssignment(
        torch.cat(mixed), torch.stack(divergence).sum(), torch.stack(distance).sum()
    )


def rename_old_counter(_: nn.Module, weights: dict[str, Tensor], prefix: str, *__: object) -> None:
    """Before weights are loaded: gives `steps`, as SQ-VAE and HQA had it once, its name `counter.steps`."""
    if prefix + "steps" in weights:
        weights[f"{prefix}counter.steps"] = weights.pop(prefix + "steps")
