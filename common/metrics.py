"""Metrics that training and scoring share."""

from jaxtyping import Float, Shaped
from torch import Tensor


def psnr(
    originals: Shaped[Tensor, "b c y x"], images: Shaped[Tensor, "b c y x"], data_range: float
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each image, in dB; infinite where it is exact.

    `data_range` is the difference of the greatest and the least value: 255 for bytes, 2 for [-1, 1].
    """
    error = (originals.float() - images.float()).square().mean((1, 2, 3))
    return 10 * (data_range**2 / error).log10()
