"""What an image tokenizer minimises, and what its discriminator does."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from common.bounds import Count, NonNegative
from stage1_tokenizer.config import AdversarialLossConfig


@dataclass(frozen=True, kw_only=True)
class ImageLossConfig(AdversarialLossConfig):
    """Weights of the losses. The quantizer's own is model.quantizer.weight."""

    l1_weight: NonNegative = 1.0
    """Weight of the mean absolute error, or of what `arelbo` puts in its place."""
    arelbo: bool = False
    """Half the logarithm of the mean squared error in place of the absolute error: the Gaussian negative log-likelihood
    at its best variance, which SQ-VAE is derived for. The mean is over the batch of a process."""
    perceptual_weight: NonNegative = 1.0
    """Weight of LPIPS (VGG16), whose weights are downloaded once; 0 turns it off."""
    adversarial_weight: NonNegative = 0.1
    """Weight of the adversarial loss; 0 turns the discriminator off."""
    discriminator_width: Count = 64
    """Channels of the discriminator's first layer; further layers have up to eight times as many."""
    discriminator_layers: Count = 3
    """Strided convolutions of the discriminator; it classifies patches, so small images need fewer."""


PERCEPTUAL_SIDE = 16
"""Side of the smallest images that LPIPS takes: VGG16 halves it four times."""


def perceptual_distance() -> nn.Module:
    """LPIPS with VGG16 of torchmetrics, for images in [-1, 1], frozen.

    Raises ValueError naming the missing file and the key that turns it off.
    """
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    try:
        return LearnedPerceptualImagePatchSimilarity(net_type="vgg").net.requires_grad_(False)
    except OSError as error:
        raise ValueError(
            f"the perceptual loss needs vgg16-397923af.pth of torchvision in {torch.hub.get_dir()}/checkpoints, "
            f"which is not there and can't be downloaded ({error}): put it there, or set loss.perceptual_weight=0"
        ) from None


def reconstruction_losses(
    reconstruction: Float[Tensor, "b c y x"],
    images: Float[Tensor, "b c y x"],
    config: ImageLossConfig,
) -> dict[str, Float[Tensor, ""]]:
    """The weighted distance of reconstructions from their originals, pixel by pixel, by its name."""
    if config.arelbo:
        return {"arelbo": config.l1_weight * 0.5 * F.mse_loss(reconstruction, images).log()}
    return {"l1": config.l1_weight * F.l1_loss(reconstruction, images)}


def generator_hinge(fake: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """The generator's side of the hinge loss (Lim & Ye 2017)."""
    return -fake.float().mean()


def discriminator_hinge(
    real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """The discriminator's side: half the mean distance of each patch from the right side of its margin."""
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())
