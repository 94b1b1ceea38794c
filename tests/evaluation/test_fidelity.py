"""Distances between sets of features: known answers, and who may be called FID."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import CPU, as_reference, features
from hypothesis import given, settings
from hypothesis import strategies as st

from common.files import sha256
from pipelines.evaluation.fidelity import (
    distance,
    frechet_distance,
    inception_score,
    kernel_distance,
    metric_name,
    nearest,
    precision_recall,
)
from pipelines.evaluation.images.extractors import ClassifierExtractor, InceptionExtractor


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


def test_mode_collapse_has_precision_without_recall(classifier: ClassifierExtractor) -> None:
    torch.manual_seed(0)
    real = as_reference(torch.randn(500, 8))
    collapsed = features(real.features.features[:2].repeat(200, 1))
    precision, recall = precision_recall(collapsed, real, classifier, seed=0)
    assert precision.value == 1 and recall.value is not None and recall.value < 0.01
    assert kernel_distance(collapsed, real, classifier, seed=0).value > 0.1  # type: ignore[operator]


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
