"""Terms of the objective that several quantizers share."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def two_pulls(
    latents: Float[Tensor, "*b d"], chosen: Float[Tensor, "*b d"], weight: float, beta: float
) -> dict[str, Float[Tensor, ""]]:
    """`codebook`, which moves the codes alone, and `commitment`, beta of it, which moves the encoder alone.

    Mean squares over all elements (van den Oord et al. 2017, equation 3).
    """
    return {
        "codebook": weight * F.mse_loss(chosen, latents.detach()),
        "commitment": weight * beta * F.mse_loss(latents, chosen.detach()),
    }
