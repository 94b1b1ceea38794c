"""The learned maps that may take a frozen basis to a codebook, from none to a small network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call


class Scaling(nn.Module):
    """Rows times a weight for each dimension or for all, plus a bias for each."""

    def __init__(self, dim: int, weights: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(weights))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, rows: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The scaled and shifted rows."""
        scaled = rows * self.weight
        return scaled if self.bias is None else scaled + self.bias


def new_map(kind: str, dim: int, bias: bool) -> nn.Module:
    """The map that the key `map` names."""
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


def mapped(projection: nn.Module, rows: Float[Tensor, "*k m"]) -> Float[Tensor, "*k d"]:
    """The rows after the map; in float32, whatever the autocast and the weights' type."""
    with torch.autocast(rows.device.type, enabled=False):
        weights = {name: value.float() for name, value in projection.named_parameters()}
        return functional_call(projection, weights, (rows.float(),))


@torch.no_grad()
def match_moments(projection: nn.Module, basis: Tensor, vectors: Float[Tensor, "n d"]) -> None:
    """Scales the map's last layer, and sets its bias, so that the mapped basis has mean and spread of
    `vectors`. Without a bias only the scale is set; without a map the basis itself is changed.
    """
    last = projection[-1] if isinstance(projection, nn.Sequential) else projection
    codebook = mapped(projection, basis)
    spread = codebook.std(0).square().mean().sqrt()
    factor = vectors.std(0).square().mean().sqrt() / spread.clamp_min(1e-12)
    if isinstance(last, nn.Identity):
        basis.sub_(basis.mean(0)).mul_(factor).add_(vectors.mean(0))
        return
    assert isinstance(last, nn.Linear | Scaling)
    last.weight.mul_(factor)
    if last.bias is not None:
        centre = factor * (codebook.mean(0) - last.bias)
        last.bias.copy_(vectors.mean(0) - centre)
