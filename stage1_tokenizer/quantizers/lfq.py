"""LFQ: the sign of each channel is a bit of the code; no codebook is learned (MAGVIT-v2, arXiv 2310.05737).

BSQ (arXiv 2406.07548) does the same on the unit sphere.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from common.bounds import Count, NonNegative, Positive, Within
from common.processes import average_over_processes
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.estimators import straight_through
from stage1_tokenizer.quantizers.fsq import LARGEST
from stage1_tokenizer.quantizers.losses import entropy
from stage1_tokenizer.quantizers.spec import check_codes


@dataclass(frozen=True, kw_only=True)
class LFQConfig:
    """The codebook's size, the sphere, and the weights of what keeps the bits certain and in use."""

    method: Literal["lfq"] = "lfq"
    codebook_size: Count = 1024
    """Number of codes, K, a power of two."""
    spherical: bool = False
    """Whether latents and corners are scaled to the unit sphere (BSQ), which bounds the quantization error. BSQ's
    authors have group_bits=9, temperature=1, beta=0."""
    weight: NonNegative = 1.0
    """Weight of all terms in the total loss."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss, between latents and their corners (Open-MAGVIT2)."""
    entropy_weight: NonNegative = 0.1
    """Weight of the entropy term, which makes entropy low per vector and high over the batch."""
    temperature: Positive = 0.01
    """Temperature of the code probabilities in the entropy term."""
    group_bits: Annotated[int, Within(1, 20)] = 18
    """Most bits whose joint distribution is used for the batch's entropy. More bits are split into groups, and the
    sum of the groups' entropies is an upper bound of the batch's."""

    def __post_init__(self) -> None:
        size = self.codebook_size
        if not 2 <= size <= LARGEST or size & (size - 1):
            raise ValueError(
                f"codebook_size={size} must be a power of two from 2 to {LARGEST}: "
                "set model.quantizer.codebook_size"
            )

    @property
    def code_dim(self) -> int:
        """One channel per bit: the encoder's last layer projects to so few."""
        return self.codebook_size.bit_length() - 1


class LFQ(Quantizer):
    """Vectors to the corner of {-1, 1}^d with their signs (divided by sqrt(d) if spherical); zero counts as negative.

    The bits of a code are the channels, the first most significant. `entropy_term` is MAGVIT-v2's E[H(p)] - H(E[p]),
    in a form that holds no N x K probabilities. It may be negative, and so may the loss. Its batch is that of all
    processes, and its weight stays constant.

        >>> quantizer = LFQ(codebook_size=256)
        >>> latents, codes, loss = quantizer(torch.randn(2, 5, 8))
        >>> codes.shape
        torch.Size([2, 5])
    """

    config_class = LFQConfig
    config: LFQConfig
    strides: Tensor

    @keywords_of(LFQConfig)
    def __init__(self, *given: LFQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        strides = 2 ** torch.arange(self.config.code_dim).flip(0)
        self.register_buffer("strides", strides, persistent=False)

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """Every corner."""
        return self.lookup(torch.arange(self.config.codebook_size, device=self.strides.device))

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, signs and losses (section 3.1)."""
        if self.config.spherical:
            latents = F.normalize(latents, dim=-1)
        codes = self.encode(latents)
        chosen = self._corners(latents > 0)
        weight, flat = self.config.weight, latents.flatten(0, 1)
        losses = {
            "commitment": weight * self.config.beta * F.mse_loss(latents, chosen),
            "entropy": weight * self.config.entropy_weight * self.entropy_term(flat),
        }
        return Quantized(straight_through(latents, chosen), codes, losses, flat.detach())

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The codes of the corners in the same orthants."""
        return ((latents > 0) * self.strides).sum(-1)

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Corners, from the bits of `codes`. Raises ValueError for codes outside the alphabet."""
        check_codes(codes, self.spec)
        return self._corners(codes[..., None] // self.strides % 2)

    def _corners(self, bits: Shaped[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return (bits.float() * 2 - 1) * self.corner

    @property
    def corner(self) -> float:
        """The size of a corner's channels."""
        return self.config.code_dim**-0.5 if self.config.spherical else 1.0

    def entropy_term(self, latents: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        """The mean entropy of p(code | vector) less the entropy of its mean, in nats.

        p is proportional to exp(2 z . c / temperature): independent bits with log odds 4 z |c| / temperature,
        where |c| is the size of a corner's channels.
        """
        logits = 4 * self.corner * latents / self.config.temperature
        groups = logits.tensor_split(-(-logits.shape[1] // self.config.group_bits), dim=1)
        batch = torch.stack([entropy(average_over_processes(mean_joint(part))) for part in groups])
        return binary_entropy(logits).sum(1).mean() - batch.sum()


def binary_entropy(logits: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Entropy in nats of a bit with these logits, its log odds."""
    size = logits.abs()  # of the same entropy, with exponentials that are all below 1
    return torch.log1p(torch.exp(-size)) + size * torch.sigmoid(-size)


def mean_joint(logits: Float[Tensor, "n g"]) -> Float[Tensor, " k"]:
    """The mean over vectors of the joint distribution of g independent bits, the first most significant.

    It is the product of the first half's N x 2^(g/2) matrix with the second half's.
    """
    first, second = (joint(part) for part in logits.tensor_split(2, dim=1))
    return (first.T @ second).flatten() / len(logits)


def joint(logits: Float[Tensor, "n g"]) -> Float[Tensor, "n k"]:
    """The joint distribution of g independent bits of each vector; 1 where g is 0."""
    probabilities = logits.new_ones(len(logits), 1)
    for bit in logits.unbind(1):
        pair = torch.stack([torch.sigmoid(-bit), torch.sigmoid(bit)], dim=1)
        probabilities = rearrange(probabilities[:, :, None] * pair[:, None], "n k two -> n (k two)")
    return probabilities
