"""The growth benchmark: slopes of known powers, and every curve at tiny sizes."""

from pathlib import Path

import pytest

from benchmarks.growth import HEADER, GrowthSizes, compare, drawn, encoding, line, log_slope
from common.pictures import save_figure


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_the_slope_is_the_exponent(power: float) -> None:
    sizes = [3, 10, 50, 400]
    assert log_slope(sizes, [7 * size**power for size in sizes]) == pytest.approx(power)


def test_a_data_set_is_encoded_again_and_again() -> None:
    run = encoding(100)
    run()
    run()


def test_every_curve_has_its_line_and_is_drawn(tmp_path: Path) -> None:
    tiny = GrowthSizes(
        vectors=(8, 16),
        codebook_sizes=(8, 16),
        code_dims=(2, 4),
        lengths=(4, 8),
        prior="1m",
        pictures=(2, 4),
        rounds=1,
    )
    curves = compare(tiny)
    assert [curve.sizes for curve in curves] == [[8, 16], [8, 16], [2, 4], [4, 8], [2, 4]]
    assert all(len(line(curve)) == len(HEADER) for curve in curves)
    save_figure(drawn(curves), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000
