"""Terms of the objective that several quantizers share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def codebook_and_commitment_loss(
    latents: Float[Tensor, "*b d"], chosen: Float[Tensor, "*b d"], weight: float, beta: float
) -> dict[str, Float[Tensor, ""]]:
    """`codebook`, which moves the codes alone, and `commitment`, beta of it, which moves the encoder alone.

    Mean squares over all elements (van den Oord et al. 2017, equation 3).
    """
    return {
        "codebook": weight * F.mse_loss(chosen, latents.detach()),
        "commitment": weight * beta * F.mse_loss(latents, chosen.detach()),
    }


def entropy(probabilities: Float[Tensor, "... k"]) -> Float[Tensor, "..."]:
    """Entropy in nats; a probability of zero adds nothing, also to the gradient."""
    return -(probabilities * probabilities.clamp_min(1e-30).log()).sum(-1)


def gaussian_wasserstein(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]
) -> Float[Tensor, ""]:
    """The quadratic Wasserstein distance of the Gaussians with the means and covariances of two point clouds.

    Fang et al. 2025 (arXiv 2506.15078): the root of |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2).
    The last trace is the sum of the singular values of L1' L2 for any factors S = L L', here Cholesky's,
    whose gradient is finite where that of a matrix root is not: at equal eigenvalues.
    """
    with torch.autocast(first.device.type, enabled=False):
        mean1, factor1 = _moments(first.float())
        mean2, factor2 = _moments(second.float())
        spreads = factor1.square().sum() + factor2.square().sum()
        product = factor1.T @ factor2  # svdvals raises where it is not finite; the spreads stay so
        common = torch.linalg.svdvals(product.where(product.isfinite().all(), 0)).sum()
        squared = (mean1 - mean2).square().sum() + spreads - 2 * common
        return (squared.clamp_min(0) + 1e-8).sqrt()


def _moments(vectors: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean, and lower factor of the covariance, to which a ten-thousandth of its mean variance is added."""
    mean = vectors.mean(0)
    centred = vectors - mean
    covariance = centred.T @ centred / len(vectors)
    ridge = 1e-4 * covariance.detach().diagonal().mean() + 1e-8
    ridge = ridge * torch.eye(len(covariance), device=vectors.device)
    return mean, torch.linalg.cholesky_ex(covariance + ridge).L
