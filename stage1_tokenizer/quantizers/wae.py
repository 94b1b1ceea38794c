"""VQ-WAE: codes and vectors meet by optimal transport, with equal use of all codes (arXiv 2302.05917)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.bounds import Count, NonNegative, Positive
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import random_codebook
from stage1_tokenizer.quantizers.estimators import straight_through


@dataclass(frozen=True, kw_only=True)
class WAEConfig:
    """The codebook, and how closely the transport is computed."""

    method: Literal["wae"] = "wae"
    codebook_size: Count = 1024
    """Number of codes, K."""
    code_dim: Count = 64
    """Dimension of one code vector, d."""
    weight: NonNegative = 1.0
    """Weight of the transport's cost in the total loss."""
    iterations: Count = 50
    """Iterations of Sinkhorn's algorithm."""
    epsilon: Positive = 0.1
    """Weight of the plan's entropy, in units of the spread of the cost: smaller is closer to the optimal
    plan and needs more iterations."""
    most_vectors: Count = 4096
    """Most vectors of a batch in the plan; of more, a random choice. The plan has this many times K entries."""


class WAE(Quantizer):
    """Vectors to the nearest code; an optimal transport cost replaces the codebook and the commitment loss.

    The cost is sum_ij P_ij |z_i - c_j|^2 / d (`transport_cost`). Unlike in VQ-WAE, the plan P is entropic (`sinkhorn`)
    and one for all positions of the grid; the authors solve a linear program for each position. P has no gradient,
    and each process has its own. Codes have equal weights; the authors learn the weights, with a KL term of weight
    1e-3 towards equal ones.
    """

    config_class = WAEConfig
    config: WAEConfig

    @keywords_of(WAEConfig)
    def __init__(self, *given: WAEConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        self.table = nn.Parameter(random_codebook(config.codebook_size, config.code_dim))

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and the transport's cost."""
        codes, flat = self.encode(latents), latents.flatten(0, 1)
        some = flat if len(flat) <= self.config.most_vectors else flat[self._some(flat)]
        plan = sinkhorn(some, self.codebook, self.config.epsilon, self.config.iterations)
        cost = transport_cost(some, self.codebook, plan) / self.config.code_dim
        losses = {"transport": self.config.weight * cost}
        estimated = straight_through(latents, self.lookup(codes))
        return Quantized(estimated, codes, losses, flat.detach())

    def _some(self, flat: Float[Tensor, "n d"]) -> Tensor:
        """Indices of `most_vectors` of the vectors: at random in training, else evenly spread."""
        most = self.config.most_vectors
        if self.training:
            return torch.randperm(len(flat), device=flat.device)[:most]
        return torch.arange(most, device=flat.device) * len(flat) // most


@torch.no_grad()
def sinkhorn(
    latents: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], epsilon: float, iterations: int
) -> Float[Tensor, "n k"]:
    """The transport plan between vectors and codes of equal weights, by Sinkhorn's algorithm in log space.

    Terms of the squared distance that depend on the vector or the code alone do not change the plan. So the score
    of a pair is 2 (z - mean) . (c - mean); the scores' standard deviation is the unit of `epsilon`.
    """
    n, k = len(latents), len(codebook)
    scores = 2 * (latents - latents.mean(0)) @ (codebook - codebook.mean(0)).T
    logs = scores / (epsilon * scores.std(correction=0)).clamp_min(1e-30)
    of_codes = logs.new_zeros(k)
    for _ in range(iterations):
        of_vectors = -torch.logsumexp(logs + of_codes, dim=1, keepdim=True)
        of_codes = -torch.logsumexp(logs + of_vectors, dim=0) + torch.log(logs.new_tensor(n / k))
    of_vectors = -torch.logsumexp(logs + of_codes, dim=1, keepdim=True)
    return (logs + of_vectors + of_codes).exp_() / n


def transport_cost(
    latents: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], plan: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """The cost sum_ij plan_ij |z_i - c_j|^2, without the matrix of the distances."""
    centre = codebook.detach().mean(0)
    z, c = latents - centre, codebook - centre
    alone = plan.sum(1) @ z.square().sum(1) + plan.sum(0) @ c.square().sum(1)
    return alone - 2 * (z * (plan @ c)).sum()
