"""Distances between sets of features: known answers, and who may be called FID."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import CPU, as_reference, features
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_kid import kid_features_to_metric

from common.files import sha256
from pipelines.evaluation.fidelity import (
    distance,
    distance_to_file,
    frechet_distance,
    inception_score,
    kernel_distance,
    metric_name,
    nearest,
    precision_recall,
    precision_recall_of_features,
)
from pipelines.evaluation.images.extractors import ClassifierExtractor, InceptionExtractor
from pipelines.evaluation.kernels import cubic, unbiased_mmd
from pipelines.evaluation.statistics_files import Statistics


def cubic_mmd(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    return unbiased_mmd(x, y, cubic)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 999))
def test_frechet_distance_of_two_gaussians_has_a_closed_form(dimensions: int, seed: int) -> None:
    """For covariances that commute it is |mu - mu'|^2 + sum (s - s')^2 over the standard deviations."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(dimensions, dimensions)))[0]
    mus, spreads = random.normal(size=(2, dimensions)), random.uniform(0.1, 2, (2, dimensions))
    a, b = (
        {"mu": m, "sigma": axes @ np.diag(s**2) @ axes.T} for m, s in zip(mus, spreads, strict=True)
    )
    expected = ((mus[0] - mus[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_set_has_no_distance_to_itself(classifier: ClassifierExtractor) -> None:
    values = torch.randn(200, 8, generator=torch.manual_seed(0))
    real = as_reference(values)
    assert distance(real.features, real, classifier).value == pytest.approx(0, abs=1e-9)
    precision, recall = precision_recall(real.features, real, classifier, seed=0)
    assert (precision.value, recall.value) == (1, 1)
    assert nearest(real.features, real.features)[0].max() == 0


def test_kernel_distance_is_torch_fidelitys_of_one_subset_that_is_all() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(90, 5).double(), 1.2 * torch.randn(90, 5).double()
    theirs = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=90, verbose=False)
    value, _ = cubic_mmd(x, y)
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)


def test_the_jackknife_is_that_of_leaving_items_out() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 3).double(), 0.5 + torch.randn(9, 3).double()
    variance = 0.0
    for side, count in enumerate((12, 9)):
        left_out = []
        for i in range(count):
            rest = [x, y]
            rest[side] = torch.cat([rest[side][:i], rest[side][i + 1 :]])
            left_out.append(cubic_mmd(*rest)[0])
        variance += (count - 1) * float(np.var(left_out))
    assert cubic_mmd(x, y)[1] == pytest.approx(variance**0.5, rel=1e-9)


def test_the_interval_of_kernel_distance_covers_the_true_one() -> None:
    """Two Gaussians whose distance is known from many items: 95 % intervals of few items hold it as often."""
    torch.manual_seed(0)
    true = cubic_mmd(torch.randn(6000, 3).double(), 0.7 + torch.randn(6000, 3).double())[0]
    held = 0
    for _ in range(200):
        value, error = cubic_mmd(torch.randn(60, 3).double(), 0.7 + torch.randn(60, 3).double())
        held += abs(value - true) < 1.96 * error
    assert 0.88 <= held / 200 <= 1


def test_mode_collapse_has_precision_without_recall(classifier: ClassifierExtractor) -> None:
    torch.manual_seed(0)
    real = as_reference(torch.randn(500, 8))
    collapsed = features(real.features.features[:2].repeat(200, 1))
    precision, recall = precision_recall(collapsed, real, classifier, seed=0)
    assert precision.value == 1 and recall.value is not None and recall.value < 0.01
    assert kernel_distance(collapsed, real, classifier, seed=0).value > 0.1  # type: ignore[operator]


def test_precision_and_recall_need_more_items_than_neighbours(
    classifier: ClassifierExtractor,
) -> None:
    real = as_reference(torch.randn(20, 8))
    few, more = (
        precision_recall(features(real.features.features[:n]), real, classifier, 0) for n in (3, 4)
    )
    assert all("more than 3 items" in metric.reason for metric in few)  # type: ignore[operator]
    assert more[0].value == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_item_has_no_covariance(classifier: ClassifierExtractor) -> None:
    one, more = features(torch.randn(1, 4)), features(torch.randn(20, 4))
    file = Statistics(Path("file.npz"), np.zeros(4), np.eye(4), "0")
    for result in (
        distance(one, as_reference(torch.randn(20, 4)), classifier),
        distance(more, as_reference(torch.randn(1, 4)), classifier),
        distance_to_file(one, file, classifier),
    ):
        assert "at least two items" in str(result.reason)


def test_inception_score_of_known_predictions(classifier: ClassifierExtractor) -> None:
    """Sure and even over k classes gives k; the same prediction for all gives 1."""
    sure = torch.eye(4).repeat(30, 1) * 100
    assert inception_score(features(sure), classifier, 0).value == pytest.approx(4, rel=1e-4)
    same = torch.zeros(120, 4)
    assert inception_score(features(same), classifier, 0).value == pytest.approx(1)


def test_neighbours_are_those_by_brute_force() -> None:
    torch.manual_seed(0)
    samples, real = torch.randn(300, 4), torch.randn(50, 4)
    distances, places = nearest(features(samples), features(real), neighbours=3)
    brute = (samples[:, None].double() - real.double()).norm(dim=-1).sort(dim=1)
    torch.testing.assert_close(distances.double(), brute.values[:, :3], atol=1e-6, rtol=1e-5)
    assert torch.equal(places, brute.indices[:, :3])


def test_only_the_published_inception_makes_fid(
    classifier: ClassifierExtractor, inception_file: Path
) -> None:
    assert metric_name("FID", classifier) == "FD(digits-classifier)"
    assert metric_name("KID", classifier) == "KID(digits-classifier)"
    random = InceptionExtractor(inception_file, CPU)
    assert metric_name("FID", random) == f"FD(inception-of-{sha256(inception_file)[:8]})"
    random.published = True
    assert metric_name("FID", random) == "FID"


def test_features_far_from_zero_have_the_same_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    items, real = (torch.randn(200, 8, generator=generator).double() for _ in range(2))
    near, far = (
        ((items + by).float() for by in (0, 4096)),
        ((real + by).float() for by in (0, 4096)),
    )
    exact, moved = (precision_recall_of_features(*pair) for pair in zip(near, far, strict=True))
    assert moved == pytest.approx(exact, abs=0.02) and 0.3 < exact[0] < 0.9
