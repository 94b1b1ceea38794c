"""Distances by a Gaussian kernel: brute force, closed forms, and the scales of CMMD and KAD."""

import math

import pytest
import torch
from helpers.features import as_reference, features
from torch import Tensor

from pipelines.evaluation.fidelity import audio_distance, clip_distance, metric_name
from pipelines.evaluation.images.extractors import ClassifierExtractor
from pipelines.evaluation.kernels import biased_mmd, gaussian, median_distance, unbiased_mmd


def kernel(a: Tensor, b: Tensor, bandwidth: float) -> float:
    return math.exp(-float((a - b).square().sum()) / (2 * bandwidth**2))


def by_pairs(x: Tensor, y: Tensor, bandwidth: float, *, with_itself: bool) -> float:
    def mean(a: Tensor, b: Tensor, same: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not same or i != j]
        return sum(kernel(a[i], b[j], bandwidth) for i, j in pairs) / len(pairs)

    same = not with_itself
    return mean(x, x, same) + mean(y, y, same) - 2 * mean(x, y, False)


@pytest.mark.parametrize("bandwidth", [0.5, 3.0])
def test_both_distances_are_those_over_all_pairs(bandwidth: float) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 3).double(), 0.5 + torch.randn(9, 3).double()
    own = unbiased_mmd(x, y, gaussian(bandwidth))[0]
    assert own == pytest.approx(by_pairs(x, y, bandwidth, with_itself=False), abs=1e-12)
    own = biased_mmd(x, y, gaussian(bandwidth))
    assert own == pytest.approx(by_pairs(x, y, bandwidth, with_itself=True), abs=1e-12)


def test_the_distance_of_two_gaussians_has_a_closed_form() -> None:
    """Of N(0, I) and N(m, I) by a kernel of width h: 2 (h^2 / (h^2 + 2))^(f/2) (1 - exp(-|m|^2 / (2 (h^2 + 2))))."""
    torch.manual_seed(0)
    width, shift, dimensions = 1.5, 0.8, 2
    x = torch.randn(4000, dimensions).double()
    y = shift + torch.randn(4000, dimensions).double()
    value, error = unbiased_mmd(x, y, gaussian(width))
    wide = width**2 + 2
    true = 2 * (width**2 / wide) ** (dimensions / 2)
    true *= 1 - math.exp(-dimensions * shift**2 / (2 * wide))
    assert abs(value - true) < 3 * error < 0.2 * true


def test_cmmd_and_kad_have_the_widths_and_scales_of_their_papers(
    classifier: ClassifierExtractor,
) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 3), 0.5 + torch.randn(9, 3)
    unit = [side.double() / side.double().norm(dim=1, keepdim=True) for side in (x, y)]
    cmmd = clip_distance(features(x), as_reference(y), classifier, seed=0)
    expected = 1000 * by_pairs(unit[0], unit[1], 10, with_itself=True)
    assert cmmd.value == pytest.approx(expected, rel=1e-6)
    real = y.double()
    pairs = sorted(float((real[i] - real[j]).norm()) for i in range(9) for j in range(i))
    assert median_distance(real) == pytest.approx(pairs[17])  # 36 pairs: the lower of the middle
    kad = audio_distance(features(x), as_reference(y), classifier, seed=0)
    expected = 100 * by_pairs(x.double(), real, pairs[17], with_itself=False)
    assert kad.value == pytest.approx(expected, rel=1e-6)
    assert metric_name("CMMD", classifier) == "CMMD(digits-classifier)"
    assert metric_name("KAD", classifier) == "KAD(digits-classifier)"
