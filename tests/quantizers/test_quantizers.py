"""What holds for every quantizer: the contract of `contract.py`, and what concerns this package alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.quantizer_cases import CASES, DIM, Case, LargestTensor, vectors
from torch.utils._python_dispatch import TorchDispatchMode

from stage1_tokenizer.codebook_usage import quantization_error
from stage1_tokenizer.quantizers.contract import (
    CHECKS,
    codes_decode_to_latents,
    gradient_reaches_the_encoder,
    initialized,
)

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_holds(case: Case, check: Callable) -> None:
    check(case.make)


@every
def test_vectors_that_are_not_finite_are_left_out_of_the_first_batch(case: Case) -> None:
    torch.manual_seed(0)
    clean = case.make()
    other = copy.deepcopy(clean)
    latents = vectors()
    clean.init_from(latents[:, 2:])
    latents[:, 0] = torch.nan
    latents[:, 1, 0] = torch.inf
    other.init_from(latents)
    for name, value in clean.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    for none in (latents[:, :2], latents[:, :0]):
        with pytest.raises(ValueError, match="hold no finite vector: codes begin from at least"):
            other.init_from(none)


@every
@pytest.mark.parametrize("shape", [(2, 5, 1), (2, DIM, 5)])
def test_encode_refuses_vectors_of_another_dimension(case: Case, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(..., d\), with d = code_dim = 6"):
        case.make().encode(torch.randn(shape))


@every
def test_no_vectors_have_no_codes(case: Case) -> None:
    quantizer = case.make()
    levels = (quantizer.spec.levels,) if quantizer.spec.levels > 1 else ()
    assert quantizer.encode(torch.zeros(2, 0, DIM)).shape == (2, 0, *levels)


@every
@pytest.mark.parametrize("code", [-1, 10**6])
def test_a_code_outside_the_alphabet_has_no_vector(case: Case, code: int) -> None:
    quantizer = case.make()
    for level in range(quantizer.spec.levels):
        codes = torch.zeros(2, quantizer.spec.levels, dtype=torch.int64)
        codes[0, level] = code
        with pytest.raises((ValueError, IndexError)):
            quantizer.lookup(codes if quantizer.spec.levels > 1 else codes[:, 0])


@every
def test_integers_alone_give_the_quantized_latents(case: Case) -> None:
    codes_decode_to_latents(case.make, case.soft)
    assert case.make().spec.discrete == case.exact


@every
def test_a_gradient_reaches_the_encoder(case: Case) -> None:
    gradient_reaches_the_encoder(case.make, case.straight)


@every
def test_codes_are_the_nearest_by_brute_force(case: Case) -> None:
    if not case.nearest:
        pytest.skip("another rule chooses the code")
    quantizer = initialized(case.make).eval()
    latents = vectors(offset=0.0).flatten(0, 1)
    distances = torch.cdist(
        latents.double(), quantizer.codebook.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    chosen = distances.gather(1, quantizer.encode(latents)[:, None])[:, 0]
    torch.testing.assert_close(chosen, distances.min(1).values, atol=1e-5, rtol=1e-5)


@every
@torch.no_grad()
def test_the_quantization_error_is_that_of_the_codes(case: Case) -> None:
    quantizer, latents = initialized(case.make), vectors(seed=2)
    quantizer.eval()
    left = latents - quantizer.lookup(quantizer.encode(latents))
    variance = latents.var((0, 1), correction=0).mean()
    assert quantization_error(quantizer, latents) == pytest.approx(
        float(left.square().mean() / variance), rel=1e-5
    )


@every
def test_products_within_the_search_keep_their_precision(case: Case) -> None:
    """Also where TF32 is allowed."""
    quantizer, seen = initialized(case.make), set[str]()
    backend = torch.backends.cuda.matmul

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if "mm" in str(func):
                seen.add(backend.fp32_precision)
            return func(*args, **(kwargs or {}))

    backend.fp32_precision = "tf32"
    try:
        with Watching():
            quantizer.encode(vectors(seed=2))
    finally:
        backend.fp32_precision = "none"
    assert seen <= {"ieee"}


@every
def test_a_code_is_its_own_code(case: Case) -> None:
    quantizer = initialized(case.make).eval()
    if quantizer.spec.levels > 1 or not case.nearest:
        pytest.skip("a code of several levels, or one that is not the nearest")
    codebook = quantizer.codebook
    again = quantizer.encode(codebook)
    torch.testing.assert_close(codebook[again], codebook, atol=1e-6, rtol=1e-6)


@every
def test_what_it_learns_learns_from_its_losses(case: Case) -> None:
    quantizer = initialized(case.make)
    if not case.learns:
        assert not [p for p in quantizer.parameters() if p.requires_grad]
        return
    quantizer(vectors()).loss.backward()
    moved = [p.grad.abs().sum() for p in quantizer.parameters() if p.grad is not None]
    assert moved and sum(moved) > 0


@every
def test_two_halves_accumulate_to_a_whole(case: Case) -> None:
    whole, halves = (initialized(case.make).eval() for _ in range(2))
    latents = vectors(b=4)
    with torch.no_grad():
        out = whole(latents)
        parts = [halves(half) for half in latents.split(2)]
    whole.accumulate(out.inputs, out.codes.flatten(0, 1))
    for part in parts:
        halves.accumulate(part.inputs, part.codes.flatten(0, 1))
    whole.after_step()
    halves.after_step()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, halves.state_dict()[name], atol=1e-6, rtol=1e-5)


@every
def test_no_matrix_of_n_by_k(case: Case) -> None:
    if not case.nearest or "codebook_size" not in case.options:
        pytest.skip("it has no search among K codes")
    n, k = 2048, 8192
    quantizer = initialized(Case(case.kind, case.options | {"codebook_size": k}).make)
    latents = vectors(b=1, n=n).requires_grad_()
    with LargestTensor() as watched:
        out = quantizer(latents)
        (out.loss + out.latents.sum()).backward()
    assert watched.elements < n * k
