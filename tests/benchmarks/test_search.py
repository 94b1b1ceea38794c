"""The search's benchmark: all ways give the same codes, losses and gradients, and its table has a row for each K."""

import pytest
import torch

from benchmarks.search import HEADER, WAYS, SearchSizes, compare, line, step

TINY = SearchSizes(vectors=70, code_dim=8, codebook_sizes=(33, 2000), rounds=1)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "ours"])
@pytest.mark.parametrize("size", TINY.codebook_sizes)
def test_ways_give_the_same_codes_losses_and_gradients(way: str, size: int) -> None:
    mine, theirs = step("ours", TINY, size)(), step(way, TINY, size)()
    assert torch.equal(mine.codes, theirs.codes)
    assert len(mine.codes.unique()) > 10
    for a, b in zip(mine[1:], theirs[1:], strict=True):
        torch.testing.assert_close(a, b)
        assert a.abs().sum() > 0


def test_a_step_can_be_taken_again() -> None:
    run = step("ours", TINY, 33)
    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_every_codebook_size_has_its_line() -> None:
    rows = compare(SearchSizes(vectors=70, code_dim=8, codebook_sizes=(33,), rounds=1))
    assert [row.codebook_size for row in rows] == [33]
    assert all(len(line(row)) == len(HEADER) for row in rows)
    assert rows[0].seconds.keys() == {*WAYS, "product"}
