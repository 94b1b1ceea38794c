"""A step's vectors and codes: samples of them, and upkeep without a matrix of N x K."""

import pytest
import torch
from helpers.codebook_upkeep import noted, vectors
from helpers.quantizer_cases import LargestTensor
from torch import Tensor

from stage1_tokenizer.quantizers import CVQ, EMA, Affine, Quantizer
from stage1_tokenizer.quantizers.assignments import Assignments


def rows_of(table: Tensor, among: Tensor) -> Tensor:
    """Whether each row of `table` is exactly one of `among`."""
    return (table[:, None] == among[None]).all(2).any(1)


@pytest.mark.parametrize(("rows", "count"), [(100, 100), (1000, 7), (101, 100), (150, 100)])
def test_candidates_are_rows_none_twice(rows: int, count: int) -> None:
    assignments = Assignments()
    latents = vectors(rows)
    for part in latents.split(37):
        assignments.add(part, torch.zeros(len(part), dtype=torch.int64))
    drawn = [assignments.sample(count, step) for step in range(3)]
    for candidates in drawn:
        assert rows_of(candidates, latents).all()
        assert len(candidates.unique(dim=0)) == count
    assert not torch.equal(drawn[0], drawn[1]) and torch.equal(
        drawn[0], assignments.sample(count, 0)
    )


def test_fewer_vectors_than_candidates_come_several_times_a_little_apart() -> None:
    assignments = Assignments()
    latents = vectors(10)
    assignments.add(latents, torch.zeros(10, dtype=torch.int64))
    candidates = assignments.sample(100, 0)
    assert len(candidates.unique(dim=0)) == 100
    distances = torch.cdist(candidates, latents)
    assert distances.min(1).values.max() < 0.1
    assert (distances.argmin(1).bincount(minlength=10) == 10).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EMA, {"reset": "state"}),
        (CVQ, {"anchor": "closest"}),
        (CVQ, {"anchor": "random"}),
        (CVQ, {"anchor": "probrandom"}),
        (Affine, {"inner_steps": 2, "replace_after": 1}),
    ],
)
def test_upkeep_makes_no_matrix_of_n_by_k(
    kind: type[Quantizer], options: dict[str, object]
) -> None:
    n, k = 2048, 8192
    quantizer = kind(codebook_size=k, code_dim=4, start="normal", **options)
    latents = vectors(n)
    with LargestTensor() as watched:
        noted(quantizer, latents)
    assert watched.elements < n * k / 4
