"""Gradient estimators: the value of the chosen code, a gradient for the encoder."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def straight_through(
    latents: Float[Tensor, "*n d"], chosen: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n d"]:
    """`chosen` exactly, with the identity as the gradient to `latents` (van den Oord et al. 2017, 3.2)."""
    return chosen.detach() + (latents - latents.detach())


def rotation_trick(
    latents: Float[Tensor, "*n d"], chosen: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n d"]:
    """`chosen` exactly; the gradient is that of the rotation and scaling that take each latent there.

    Fifty et al. 2025 (arXiv 2410.06424), equation 4: with unit vectors e, q of latent and code and
    r = (e + q) / |e + q|, the map is (|code| / |latent|) (I - 2 r r' + 2 q e'), held constant.
    """
    e = F.normalize(latents.detach(), dim=-1)
    q = F.normalize(chosen.detach(), dim=-1)
    r = F.normalize(e + q, dim=-1)
    scale = chosen.detach().norm(dim=-1, keepdim=True)
    scale = scale / latents.detach().norm(dim=-1, keepdim=True).clamp_min(1e-6)
    reflected = latents - 2 * r * (r * latents).sum(-1, keepdim=True)
    rotated = scale * (reflected + 2 * q * (e * latents).sum(-1, keepdim=True))
    return chosen.detach() + (rotated - rotated.detach())


def synchronised(
    latents: Float[Tensor, "*n d"], chosen: Float[Tensor, "*n d"], nu: float
) -> Float[Tensor, "*n d"]:
    """`chosen` exactly, with the identity as the gradient to `latents` and nu times it to the codes.

    Huh et al. 2023 (arXiv 2305.08842), the synchronised update.
    """
    return straight_through(latents, chosen) + nu * (chosen - chosen.detach())


Estimator = Literal["straight-through", "rotation"]
ESTIMATORS: dict[Estimator, Callable[[Tensor, Tensor], Tensor]] = {
    "straight-through": straight_through,
    "rotation": rotation_trick,
}
