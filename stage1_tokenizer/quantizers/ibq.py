"""IBQ: every code learns through the softmax of its dot product with each vector (arXiv 2412.02692)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count, NonNegative, Positive
from common.processes import average_over_processes
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.chunks import in_chunks
from stage1_tokenizer.quantizers.codebook_init import random_codebook
from stage1_tokenizer.quantizers.losses import entropy
from stage1_tokenizer.quantizers.search import max_inner_product


@dataclass(frozen=True, kw_only=True)
class IBQConfig:
    """The codebook, and the weights of its losses; the defaults are those of the authors' code."""

    method: Literal["ibq"] = "ibq"
    codebook_size: Count = 1024
    """Number of codes, K."""
    code_dim: Count = 256
    """Dimension of one code vector, d."""
    weight: NonNegative = 1.0
    """Weight of all terms in the total loss; the double quantization loss has no other weight."""
    codebook_weight: NonNegative = 0.25
    """Weight of the codebook loss."""
    beta: NonNegative = 1.0
    """Weight of the commitment loss. The paper's text has 0.25 here and 1 for the codebook loss."""
    entropy_weight: NonNegative = 0.05
    """Weight of the entropy term, which makes entropy low per vector and high over the batch; 0 skips computing it."""
    temperature: Positive = 0.01
    """Temperature of the code probabilities in the entropy term."""


class IBQ(Quantizer):
    """Vectors to the code with the largest dot product; the gradient goes through all codes' probabilities.

    `by_index` is IBQ's estimator; the loss `double` trains all codes through it. The entropy term's batch is that of
    all processes.
    """

    config_class = IBQConfig
    config: IBQConfig

    @keywords_of(IBQConfig)
    def __init__(self, *given: IBQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        self.table = nn.Parameter(random_codebook(config.codebook_size, config.code_dim))

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses."""
        config = self.config
        codes, flat = self.encode(latents), latents.flatten(0, 1)
        chosen = self.lookup(codes)
        estimated = by_index(flat, self.codebook, chosen.flatten(0, 1)).view_as(latents)
        double = F.mse_loss(estimated, latents)
        losses = {
            "double": double,
            "codebook": config.codebook_weight * F.mse_loss(chosen, latents.detach()),
            "commitment": config.beta * F.mse_loss(latents, chosen.detach()),
        }
        if config.entropy_weight:
            term = entropy_term(flat / config.temperature, self.codebook)
            losses["entropy"] = config.entropy_weight * term
        losses = {name: config.weight * loss for name, loss in losses.items()}
        return Quantized(estimated, codes, losses, flat.detach())

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The codes of the largest dot products."""
        return max_inner_product(latents, self.codebook)


def by_index(
    latents: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], chosen: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """`chosen` exactly; the gradient is that of (onehot - sg[p] + p) C with p = softmax(z C').

    p C is attention of the vectors to the codes, whose kernels (but for MPS's) hold no N x K matrix; as the
    value of C is constant there, its gradient is that of p alone.
    """
    query, keys = latents[None, None], codebook[None, None]
    mixed = F.scaled_dot_product_attention(query, keys, keys.detach(), scale=1.0)[0, 0]
    return chosen + (mixed - mixed.detach())


def entropy_term(
    latents: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], most: int | None = None
) -> Float[Tensor, ""]:
    """The mean entropy of softmax(z C') less the entropy of its mean over all vectors, in nats."""

    def sums(part: Float[Tensor, "n d"]) -> tuple[Float[Tensor, ""], Float[Tensor, " k"]]:
        logs = torch.log_softmax(part @ codebook.T, dim=1)
        probabilities = logs.exp()
        return -(probabilities * logs).sum(), probabilities.sum(0)

    parts = in_chunks(sums, latents, len(codebook), most)
    each = torch.stack([part[0] for part in parts]).sum() / len(latents)
    mean = torch.stack([part[1] for part in parts]).sum(0) / len(latents)
    return each - entropy(average_over_processes(mean))
