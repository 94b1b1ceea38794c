"""Soft assignment: in training a mixture of codes drawn with Gumbel noise, else the nearest code."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stage1_tokenizer.quantizers.base import Quantized
from stage1_tokenizer.quantizers.table import TableQuantizer
from stage1_tokenizer.quantizers.tiles import in_tiles


class SoftQuantizer(TableQuantizer):
    """Codes chosen with probability proportional to exp(-precision |z - c|^2), mixed at a temperature.

    The decoder's gradient reaches encoder and codes through the mixture, without an estimator. All N x K
    probabilities are computed, a tile at a time. The losses are in nats per value of the data, of which a
    position stands for `values`.
    """

    steps: Tensor

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    @abstractmethod
    def temperature(self) -> Float[Tensor, ""]:
        """Of the mixture at this step."""

    @property
    @abstractmethod
    def precision(self) -> Float[Tensor, ""]:
        """The factor of the squared distance in the log probabilities."""

    @abstractmethod
    def terms(
        self,
        latents: Float[Tensor, "n d"],
        mixed: Float[Tensor, "n d"],
        divergence: Float[Tensor, ""],
        distance: Float[Tensor, ""],
    ) -> dict[str, Float[Tensor, ""]]:
        """The losses of these vectors, summed, before the weight.

        `divergence` is that of the probabilities from uniform ones, `distance` the expected squared one.
        """

    def placed(self, latents: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The latents where the codes are; as they are, unless overridden."""
        return latents

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, mixtures (in eval mode the codes' vectors) and losses; in float32, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = self.placed(latents.float())
            codes, flat = self.encode(latents), latents.flatten(0, 1)
            codebook, precision, temperature = self.codebook, self.precision, self.temperature

            def part(rows: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor, Tensor]:
                return mixture(rows, codebook, precision, temperature)

            parts = in_tiles(part, flat, len(codebook))
            if self.training:
                mixed = torch.cat([part[0] for part in parts])
            else:
                mixed = self.lookup(codes).flatten(0, 1)
            sums = [torch.stack([part[i] for part in parts]).sum() for i in (1, 2)]
            factor = self.config.weight / self.config.values / len(flat)
            losses = {k: factor * v for k, v in self.terms(flat, mixed, *sums).items()}
            return Quantized(mixed.view_as(latents), codes, losses, flat.detach())

    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The most probable codes alone, of any number of vectors, without gradient."""
        return super().encode(self.placed(latents.float()))

    def after_step(self) -> None:
        """Counts the step, on which the temperature depends."""
        self.steps += 1


def mixture(
    latents: Float[Tensor, "n d"],
    codebook: Float[Tensor, "k d"],
    precision: Float[Tensor, ""],
    temperature: Float[Tensor, ""],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, ""], Float[Tensor, ""]]:
    """A Gumbel-softmax sample of each vector's code; the two sums that `SoftQuantizer.terms` takes."""
    centre = codebook.detach().mean(0)
    z, c = latents - centre, codebook - centre
    scores = z @ c.T - c.square().sum(1) / 2  # (|z|^2 - |z - c|^2) / 2
    logits = 2 * precision * scores
    logs = torch.log_softmax(logits, dim=1)
    shares = logs.exp()
    divergence = (shares * logs).sum() + len(latents) * math.log(len(codebook))
    distance = z.square().sum() - 2 * (shares * scores).sum()
    noise = -torch.empty_like(logits).exponential_().log()
    mixed = torch.softmax((logits + noise) / temperature, dim=1) @ codebook
    return mixed, divergence, distance
