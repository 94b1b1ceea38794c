"""A step's vectors and codes: samples of them, and upkeep without a matrix of N x K."""

import pytest
import torch
from helpers.codebook_upkeep import is_one_of, upkeep_step, vectors
from helpers.quantizer_cases import LargestTensor

from stage1_tokenizer.quantizers import CVQ, EMA, RQ, SCVAE, Affine, Quantizer
from stage1_tokenizer.quantizers.assignments import Assignments

UPKEEP: list[tuple[type[Quantizer], dict[str, object]]] = [
    (EMA, {"reset": "state"}),
    (EMA, {"reset": "redraw"}),
    (CVQ, {"anchor": "closest"}),
    (CVQ, {"anchor": "random"}),
    (CVQ, {"anchor": "probrandom"}),
    (Affine, {"inner_steps": 2, "replace_after": 1}),
]


@pytest.mark.parametrize(("available", "count"), [(100, 100), (1000, 7), (101, 100), (150, 100)])
def test_samples_are_vectors_none_twice(available: int, count: int) -> None:
    assignments = Assignments()
    latents = vectors(available)
    for part in latents.split(37):
        assignments.add(part, torch.zeros(len(part), dtype=torch.int64))
    samples = [assignments.sample(count, step) for step in range(3)]
    for sampled in samples:
        assert is_one_of(sampled, latents).all()
        assert len(sampled.unique(dim=0)) == count
    assert not torch.equal(samples[0], samples[1]) and torch.equal(
        samples[0], assignments.sample(count, 0)
    )


def test_of_too_few_vectors_each_comes_several_times_a_little_apart() -> None:
    assignments = Assignments()
    latents = vectors(10)
    assignments.add(latents, torch.zeros(10, dtype=torch.int64))
    sampled = assignments.sample(100, 0)
    assert len(sampled.unique(dim=0)) == 100
    distances = torch.cdist(sampled, latents)
    assert distances.min(1).values.max() < 0.1
    assert (distances.argmin(1).bincount(minlength=10) == 10).all()


@pytest.mark.parametrize(("kind", "options"), UPKEEP)
def test_upkeep_makes_no_matrix_of_n_by_k(
    kind: type[Quantizer], options: dict[str, object]
) -> None:
    n, k = 2048, 8192
    quantizer = kind(codebook_size=k, code_dim=4, start="normal", **options)
    latents = vectors(n)
    with LargestTensor() as watched:
        upkeep_step(quantizer, latents)
    assert watched.elements < n * k / 4


def test_vectors_that_are_not_finite_are_never_sampled() -> None:
    assignments, latents = Assignments(), vectors(100)
    bad = latents.clone()
    bad[::2, 1], bad[-1] = torch.nan, torch.inf
    assignments.add(bad, torch.zeros(100, dtype=torch.int64))
    assert is_one_of(assignments.sample(100, 0), latents[1:-1:2]).all()


@pytest.mark.parametrize(("kind", "options"), UPKEEP)
def test_a_step_without_a_finite_vector_moves_no_code(
    kind: type[Quantizer], options: dict[str, object]
) -> None:
    quantizer = kind(codebook_size=8, code_dim=4, start="data", **options)
    quantizer.init_from(vectors(50))
    before = quantizer.codebook.detach().clone()
    upkeep_step(quantizer, torch.full((20, 4), torch.nan))
    torch.testing.assert_close(quantizer.codebook.detach(), before)


@pytest.mark.parametrize("kind", [EMA, CVQ, Affine, RQ, SCVAE])
def test_a_step_without_a_batch_says_what_to_call(kind: type[Quantizer]) -> None:
    with pytest.raises(ValueError, match=r"no batch to learn from: call accumulate\(out\.inputs"):
        kind(code_dim=4).after_step()
