"""Metrics that training and scoring share."""

from jaxtyping import Float, Shaped
from torch import Tensor

NAMES = {
    "codebook/used": "codes used",
    "codebook/perplexity": "perplexity",
    "heldout/psnr": "PSNR (dB)",
    "heldout/mel": "mel distance",
}
"""How tables and messages name these metrics of metrics.jsonl."""


MOST_DB = 106.02
"""The PSNR given to an exact image; the true one is infinite, and would make every mean infinite."""


def psnr(
    originals: Shaped[Tensor, "b c y x"], images: Shaped[Tensor, "b c y x"], data_range: float
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each image, in dB; 106.02 where it is exact.

    `data_range` is the difference of the greatest and the least value: 255 for bytes, 2 for [-1, 1].
    """
    error = (originals.float() - images.float()).square().mean((1, 2, 3))
    return (10 * (data_range**2 / error).log10()).clamp_max(MOST_DB)
