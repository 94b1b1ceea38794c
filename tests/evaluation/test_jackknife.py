"""The jackknife of a Frechet distance: brute force, and how often its intervals hold the truth."""

import numpy as np
import pytest
import torch
from helpers.features import features

from common.seeding import epoch_order
from pipelines.evaluation.features import statistics
from pipelines.evaluation.fidelity import frechet_distance
from pipelines.evaluation.jackknife import GROUPS, Target, distances, half_interval


def gaussian(dimensions: int) -> dict[str, np.ndarray]:
    return {"mu": np.ones(dimensions), "sigma": np.diag(np.arange(1.0, dimensions + 1))}


def test_the_values_are_those_of_leaving_items_out() -> None:
    items = torch.randn(64, 3, generator=torch.manual_seed(0)).double() + 5
    values = distances(items, Target.of(gaussian(3)), seed=4)
    order = epoch_order(64, 4, 0)
    left = [order[[i for i in range(64) if i % GROUPS != group]] for group in range(GROUPS)]
    for value, chosen in zip(values, [order, *left], strict=True):
        own = statistics(features(items[chosen]))
        assert value == pytest.approx(frechet_distance(own, gaussian(3)), rel=1e-9)


def test_the_mean_over_halves_leaves_the_same_items_out() -> None:
    items = torch.randn(80, 3, generator=torch.manual_seed(0)).double()
    order = epoch_order(80, 0, 0)
    halves = [order[torch.arange(80) // GROUPS % 2 == part] for part in range(2)]
    expected = [frechet_distance(statistics(features(items[h])), gaussian(3)) for h in halves]
    values = distances(items, Target.of(gaussian(3)), seed=0, parts=2)
    assert values[0] == pytest.approx(np.mean(expected), rel=1e-9)


def test_intervals_hold_the_distance_of_other_samples_as_often_as_they_say() -> None:
    """Of 200 sets of 200 items from one Gaussian, 95 % intervals hold the mean of all distances."""
    random = torch.manual_seed(0)
    target = Target.of(gaussian(3))
    sets = [
        distances(torch.randn(200, 3, generator=random).double(), target, 0) for _ in range(200)
    ]
    mean = np.mean([values[0] for values in sets])
    held = np.mean([abs(values[0] - mean) < half_interval(values) for values in sets])
    assert 0.9 <= held < 1
