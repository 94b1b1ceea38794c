"""The learned maps that may take a basis to a codebook, from none to a small network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from common.precision import float32_products


class Scaling(nn.Module):
    """Vectors times a weight for each dimension or for all, plus a bias for each."""

    def __init__(self, dim: int, weights: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(weights))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, vectors: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The scaled and shifted vectors."""
        scaled = vectors * self.weight
        return scaled if self.bias is None else scaled + self.bias


def build_projection(kind: str, dim: int, bias: bool) -> nn.Module:
    """The map that SimVQ's key `map` names."""
    match kind:
        case "full":
            return nn.Linear(dim, dim, bias=bias)
        case "diagonal":
            return Scaling(dim, dim, bias)
        case "scalar":
            return Scaling(dim, 1, bias)
        case "mlp":
            return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim, bias=bias))
        case _:
            return nn.Identity()


def project(projection: nn.Module, vectors: Float[Tensor, "*k m"]) -> Float[Tensor, "*k d"]:
    """The vectors after the map, in float32."""
    return in_float32(projection, vectors)


def in_float32(module: nn.Module, *inputs: Tensor) -> Tensor:
    """The output of a module, computed in float32 whatever the autocast and the types of weights and inputs."""
    with torch.autocast(inputs[0].device.type, enabled=False), float32_products():
        weights = {name: value.float() for name, value in module.named_parameters()}
        return functional_call(module, weights, tuple(each.float() for each in inputs))


FLAT = 1e-4
"""Spread of vectors, in units of the codebook's, below which it says nothing of the data."""


@torch.no_grad()
def match_moments(projection: nn.Module, basis: Tensor, vectors: Float[Tensor, "n d"]) -> None:
    """Scales the map's last layer, and sets its bias, so that the codebook has the mean and spread of `vectors`.

    Without a bias only the scale is set; without a map the basis itself is changed. Vectors with almost no spread,
    such as a single one, leave the scale as it is.
    """
    last = projection[-1] if isinstance(projection, nn.Sequential) else projection
    codebook = project(projection, basis)
    spread = codebook.std(0).square().mean().sqrt()
    correction = min(1, len(vectors) - 1)
    factor = vectors.std(0, correction=correction).square().mean().sqrt() / spread.clamp_min(1e-12)
    factor = torch.where(factor > FLAT, factor, 1.0)  # false for nan, too
    if isinstance(last, nn.Identity):
        basis.sub_(basis.mean(0)).mul_(factor).add_(vectors.mean(0))
        return
    assert isinstance(last, nn.Linear | Scaling)
    last.weight.mul_(factor)
    if last.bias is not None:
        centre = factor * (codebook.mean(0) - last.bias)
        last.bias.copy_(vectors.mean(0) - centre)
