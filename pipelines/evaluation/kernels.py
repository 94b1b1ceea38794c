"""Distances of two sets by a kernel (maximum mean discrepancy): KID's polynomial one, and CMMD's and KAD's Gaussian one."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1000
"""Items whose kernel with all others is held at once."""


Kernel = Callable[[Tensor, Tensor], Tensor]
"""How alike two items are, by their features: (n, f) and (m, f) to (n, m)."""


def cubic(x: Float[Tensor, "*b n f"], y: Float[Tensor, "*b m f"]) -> Float[Tensor, "*b n m"]:
    """(a b / f + 1)^3 over f features: KID's (arXiv 1801.01401)."""
    return (x @ y.mT / x.shape[-1] + 1) ** 3


def gaussian(bandwidth: float) -> Kernel:
    """exp(-|a - b|^2 / (2 bandwidth^2))."""
    return lambda x, y: torch.exp(-torch.cdist(x, y).square() / (2 * bandwidth**2))


def unbiased_mmd(
    x: Float[Tensor, "n f"], y: Float[Tensor, "m f"], kernel: Kernel
) -> tuple[float, float]:
    """The unbiased squared distance of two sets by a kernel, and its standard error.

    The error is the jackknife's: what the distance becomes without each of the items follows from sums of the
    kernel's rows and columns.
    """
    n, m = len(x), len(y)
    among_x, among_y = sums(x, x, kernel), sums(y, y, kernel)
    for among, items in ((among_x, x), (among_y, y)):
        among -= kernel(items[:, None], items[:, None])[:, 0, 0]  # no item is paired with itself
    x_with_y, y_with_x = sums(x, y, kernel), sums(y, x, kernel)
    a, b, c = among_x.sum(), among_y.sum(), x_with_y.sum()
    value = a / (n * (n - 1)) + b / (m * (m - 1)) - 2 * c / (n * m)
    without_x = (
        (a - 2 * among_x) / ((n - 1) * (n - 2))
        + b / (m * (m - 1))
        - 2 * (c - x_with_y) / ((n - 1) * m)
    )
    without_y = (
        a / (n * (n - 1))
        + (b - 2 * among_y) / ((m - 1) * (m - 2))
        - 2 * (c - y_with_x) / (n * (m - 1))
    )
    variance = sum(
        (len(values) - 1) * values.var(correction=0) for values in (without_x, without_y)
    )
    return float(value), float(variance**0.5)


def biased_mmd(x: Float[Tensor, "n f"], y: Float[Tensor, "m f"], kernel: Kernel) -> float:
    """The squared distance of two sets by a kernel, each item paired with itself too: never below 0."""
    within = sum(float(sums(side, side, kernel).sum()) / len(side) ** 2 for side in (x, y))
    return within - 2 * float(sums(x, y, kernel).sum()) / (len(x) * len(y))


def sums(x: Float[Tensor, "n f"], y: Float[Tensor, "m f"], kernel: Kernel) -> Float[Tensor, " n"]:
    """The sum of the kernel over all of `y`, for each of `x`."""
    return torch.cat([kernel(chunk, y).sum(1) for chunk in x.split(CHUNK)])


def median_distance(x: Float[Tensor, "n f"]) -> float:
    """The median distance over all pairs; of two middle values, the lower."""
    return float(torch.pdist(x).median())
