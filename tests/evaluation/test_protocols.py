"""The sentence that explains a paper's number, and what stands behind it."""

import numpy as np
import pytest
import torch

from pipelines.evaluation.jackknife import Target, distances
from pipelines.evaluation.protocols import Outcome, explanation, explanations, extrapolated


def outcomes(row: str = "samples") -> list[Outcome]:
    name = "FID vs train"
    return [
        Outcome(row, name, "as scored", 10.0, 0.5, 0.0, 0.0),
        Outcome(row, name, "JPEG of quality 75", 14.0, 0.6, 4.0, 0.1),
        Outcome(row, name, "half of the items, 500", 11.0, 0.7, 1.0, 0.2),
    ]


@pytest.mark.parametrize(
    ("paper", "says"),
    [
        (None, "`JPEG of quality 75`: by +4 ± 0.1, to 14."),
        (10.3, "10.3 lies within the interval of the FID vs train of the samples, 10 ± 0.5"),
        (13.7, "`JPEG of quality 75`, 14 ± 0.6: that difference alone would explain it"),
        (12.0, "No single protocol turns the FID vs train of the samples"),
        (11.7, "`half of the items, 500`, 11 ± 0.7: that difference alone would explain it"),
        (30.0, r"`JPEG of quality 75` comes nearest with 14 ± 0.6 (20% of the way)"),
        (5.0, r"`half of the items, 500` comes nearest with 11 ± 0.7 (0% of the way)"),
    ],
)
def test_the_sentence_names_the_difference_that_explains(paper: float | None, says: str) -> None:
    assert says in explanation(outcomes(), paper)


def test_the_papers_number_is_that_of_the_samples() -> None:
    both = [*outcomes("reconstruction"), *outcomes()]
    rebuilt, samples = explanations(both, paper=14.0)
    assert rebuilt.startswith("FID vs train of the reconstruction is 10") and "paper" not in rebuilt
    assert "alone would explain it" in samples


def test_the_extrapolation_is_the_distance_of_more_items() -> None:
    """Of Gaussian items that are compared with their own Gaussian: the distance is bias alone, which falls as 1 / n."""
    random = torch.manual_seed(0)
    target = Target.of({"mu": np.zeros(8), "sigma": np.eye(8)})

    def few(count: int) -> tuple[np.ndarray, np.ndarray]:
        items = torch.randn(count, 8, generator=random).double()
        return distances(items, target, 0), distances(items, target, 0, parts=2)

    pairs = [few(400) for _ in range(100)]
    biased = np.mean([whole[0] for whole, _ in pairs])
    guessed = np.mean([extrapolated(*pair, 400, 3200)[0] for pair in pairs])
    actual = np.mean([few(3200)[0][0] for _ in range(20)])
    assert biased > 6 * actual and guessed == pytest.approx(actual, abs=0.1 * biased)


def test_an_interval_that_holds_the_number_goes_before_a_nearer_value_that_does_not() -> None:
    name = "FID vs train"
    wide, near = (11.0, 2.0, 1.0, 0.2), (12.6, 0.1, 2.6, 0.1)
    several = [
        outcomes()[0],
        Outcome("samples", name, "wide", *wide),
        Outcome("samples", name, "near", *near),
    ]
    assert "within the interval of `wide`" in explanation(several, 12.4)
