"""The growth benchmark: slopes of known powers, and every curve at tiny sizes."""

from pathlib import Path

import pytest

from benchmarks.growth import (
    HEADER,
    GrowthSizes,
    compare,
    encoding,
    line,
    log_slope,
    measured,
    plot,
    prior_step,
    search,
)
from common.figures import save_figure


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_the_slope_is_the_exponent(power: float) -> None:
    sizes = [3, 10, 50, 400]
    assert log_slope(sizes, [7 * size**power for size in sizes]) == pytest.approx(power)


def test_a_step_of_the_prior_and_an_encoding_can_be_repeated() -> None:
    for run in (prior_step(4, 2, "1m"), encoding(100)):
        run()
        run()


@pytest.mark.slow
def test_time_and_memory_of_a_curve_are_measured() -> None:
    curve = measured("search", "codes, K", {k: (search, (64, k, 8)) for k in (16, 60_000)}, 1)
    assert curve.sizes == [16, 60_000]
    assert all(timing.median > 0 for timing in curve.seconds)
    assert all(0 <= gib < 0.1 for gib in curve.memory)
    assert len(line(curve)) == len(HEADER)


@pytest.mark.slow
def test_every_curve_has_its_line_and_is_plotted(tmp_path: Path) -> None:
    tiny = GrowthSizes(
        vectors=(8, 16),
        codebook_sizes=(8, 16),
        code_dims=(2, 4),
        lengths=(4, 8),
        prior="1m",
        images=(2, 4),
        rounds=1,
    )
    curves = compare(tiny)
    assert [curve.sizes for curve in curves] == [[8, 16], [8, 16], [2, 4], [4, 8], [2, 4]]
    assert all(len(line(curve)) == len(HEADER) for curve in curves)
    save_figure(plot(curves), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000
