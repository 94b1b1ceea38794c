"""PatchGAN, the discriminator of images (Isola et al. 2017, as the authors' code has it)."""

from jaxtyping import Float
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """A logit for each patch: above zero it looks real.

    `layers` strided 4 x 4 convolutions of `width`, 2 `width`, ... (at most 8 `width`) channels, one of stride
    1, one to a logit; batch normalisation on all but the first and the last.
    """

    def __init__(self, in_channels: int, width: int, layers: int) -> None:
        super().__init__()
        steps: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        channels = width
        for i in range(1, layers + 1):
            wider = width * min(2**i, 8)
            stride = 2 if i < layers else 1
            steps += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        steps.append(nn.Conv2d(channels, 1, 4, stride=1, padding=1))
        self.net = nn.Sequential(*steps)
        self.apply(_init)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 1 h w"]:
        return self.net(images)


def smallest_side(layers: int) -> int:
    """The smallest image side for a discriminator of `layers` layers: each halves it, and 3 patches must remain."""
    return 3 * 2**layers


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
