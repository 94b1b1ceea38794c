"""What holds for every quantizer, one contract over all of them."""

import copy

import pytest
import torch
from helpers.quantizer_cases import CASES, DIM, Case, LargestTensor, made, step, vectors

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every
def test_integers_alone_give_the_quantized_latents(case: Case) -> None:
    quantizer = made(case)
    for training in (False,) if case.soft else (True, False):
        quantizer.train(training)
        for _ in range(2):
            out = quantizer(vectors())
            if case.exact:
                torch.testing.assert_close(
                    quantizer.lookup(out.codes), out.latents, atol=1e-5, rtol=1e-5
                )
            assert torch.equal(quantizer.encode(vectors()), out.codes)
            step(quantizer, vectors(seed=2))


@every
def test_the_spec_is_truthful(case: Case) -> None:
    quantizer = made(case)
    codes = quantizer.encode(vectors())
    spec = quantizer.spec
    assert spec.discrete == case.exact
    assert codes.dtype == torch.int64 and spec.bits > 0
    levels = codes if spec.levels > 1 else codes[..., None]
    assert levels.shape == (3, 50, spec.levels)
    for level, size in enumerate(spec.sizes):
        assert levels[..., level].min() >= 0 and levels[..., level].max() < size
    if spec.order == "flat" and quantizer.codebook.shape[1] == DIM:
        every_code = torch.arange(spec.sizes[0])
        torch.testing.assert_close(quantizer.lookup(every_code), quantizer.codebook)


@every
def test_codes_are_the_nearest_by_brute_force(case: Case) -> None:
    if not case.nearest:
        pytest.skip("another rule chooses the code")
    quantizer = made(case).eval()
    latents = vectors(offset=0.0).flatten(0, 1)
    distances = torch.cdist(
        latents.double(), quantizer.codebook.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    found = distances.gather(1, quantizer.encode(latents)[:, None])[:, 0]
    torch.testing.assert_close(found, distances.min(1).values, atol=1e-5, rtol=1e-5)


@every
def test_a_code_is_its_own_code(case: Case) -> None:
    quantizer = made(case).eval()
    if quantizer.spec.levels > 1 or not case.nearest:
        pytest.skip("a code of several levels, or one that is not the nearest")
    codebook = quantizer.codebook
    again = quantizer.encode(codebook)
    torch.testing.assert_close(codebook[again], codebook, atol=1e-6, rtol=1e-6)


@every
def test_a_gradient_reaches_the_encoder(case: Case) -> None:
    quantizer = made(case)
    latents = vectors().requires_grad_()
    weights = vectors(seed=5)
    (quantizer(latents).latents * weights).sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0
    if case.straight:
        assert torch.equal(latents.grad, weights)
        tables = [p.grad for p in quantizer.parameters() if p.grad is not None]
        assert not any(grad.abs().sum() for grad in tables)


@every
def test_what_it_learns_learns_from_its_losses(case: Case) -> None:
    quantizer = made(case)
    if not case.learns:
        assert not [p for p in quantizer.parameters() if p.requires_grad]
        return
    quantizer(vectors()).loss.backward()
    moved = [p.grad.abs().sum() for p in quantizer.parameters() if p.grad is not None]
    assert moved and sum(moved) > 0


@every
def test_losses_are_finite_for_zero_huge_and_lonely_inputs(case: Case) -> None:
    for latents in (torch.zeros(1, 9, DIM), 1e4 * vectors(), torch.ones(1, 1, DIM)):
        quantizer = made(case)
        latents = latents.clone().requires_grad_()
        out = quantizer(latents)
        (out.loss + out.latents.sum()).backward()
        step(quantizer, latents.detach())
        assert out.loss.isfinite() and latents.grad is not None and latents.grad.isfinite().all()
        assert all(value.isfinite().all() for value in quantizer.state_dict().values())


@every
def test_bf16_autocast_changes_nothing(case: Case) -> None:
    quantizer = made(case)
    latents = vectors().bfloat16()
    torch.manual_seed(3)
    exact = quantizer(latents.float())
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = quantizer(latents)
        codes = quantizer.encode(latents)
    assert torch.equal(cast.codes, exact.codes) and torch.equal(
        codes, quantizer.encode(latents.float())
    )
    assert torch.equal(cast.latents, exact.latents) and cast.latents.dtype == torch.float32
    assert {k: v.item() for k, v in cast.losses.items()} == {
        k: v.item() for k, v in exact.losses.items()
    }


@every
def test_state_survives_saving(case: Case) -> None:
    quantizer = made(case)
    step(quantizer, vectors())
    twin = case.kind(**case.options)
    twin.load_state_dict(copy.deepcopy(quantizer.state_dict()))
    for seed in (2, 3):
        torch.manual_seed(seed)
        first = step(quantizer, vectors(seed=seed))
        torch.manual_seed(seed)
        second = step(twin, vectors(seed=seed))
        assert torch.equal(first.codes, second.codes)
        assert torch.equal(first.latents, second.latents)
        for name, value in quantizer.state_dict().items():
            assert torch.equal(value, twin.state_dict()[name]), name


@every
def test_forward_changes_no_state(case: Case) -> None:
    quantizer = made(case)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(vectors(seed=4))
    quantizer.eval()(vectors(seed=5))
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


@every
def test_two_halves_accumulate_to_a_whole(case: Case) -> None:
    whole, halves = made(case).eval(), made(case).eval()
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
    quantizer = made(Case(case.kind, case.options | {"codebook_size": k}))
    latents = vectors(b=1, n=n).requires_grad_()
    with LargestTensor() as watched:
        out = quantizer(latents)
        (out.loss + out.latents.sum()).backward()
    assert watched.elements < n * k
