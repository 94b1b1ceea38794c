"""The loss by chunks is that of torch on all logits at once, and so are its gradients, in every precision."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import stage2_prior.cross_entropy
from stage2_prior.cross_entropy import linear_cross_entropy
from stage2_prior.embeddings import CodebookVocabulary, LearnedVocabulary

IGNORED = -1


def at_once(states: Tensor, weight: Tensor, bias: Tensor | None, codes: Tensor) -> Tensor:
    logits = F.linear(states, weight, bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, codes, reduction="sum", ignore_index=IGNORED)


def by_chunks(states: Tensor, weight: Tensor, bias: Tensor | None, codes: Tensor) -> Tensor:
    return linear_cross_entropy(states, weight, bias, codes, IGNORED)


def case(n: int, k: int, width: int, seed: int, **options: object) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n, width), (k, width), (k,)]
    tensors = [torch.randn(shape, generator=generator, **options) for shape in shapes]  # type: ignore[call-overload]
    codes = torch.randint(k, (n,), generator=generator)
    codes[torch.rand(n, generator=generator) < 0.3] = IGNORED
    return [*(tensor.requires_grad_() for tensor in tensors), codes]


def loss_and_gradients(loss, tensors: list[Tensor], biased: bool) -> list[Tensor]:  # type: ignore[no-untyped-def]
    states, weight, bias, codes = tensors
    value = loss(states, weight, bias if biased else None, codes) / 7
    sources = [states, weight, bias][: 2 + biased]
    return [value.detach(), *torch.autograd.grad(value, sources)]


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 12),
    k=st.integers(2, 30),
    height=st.integers(1, 13),
    biased=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_loss_and_gradients_are_those_of_all_logits(
    n: int, k: int, height: int, biased: bool, seed: int
) -> None:
    tensors = case(n, k, 5, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage2_prior.cross_entropy, "LOGITS_AT_ONCE", height * k)
        patch.setattr(stage2_prior.cross_entropy, "LEAST_STATES", 1)
        ours = loss_and_gradients(by_chunks, tensors, biased)
    for mine, theirs in zip(ours, loss_and_gradients(at_once, tensors, biased), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_in_float64_are_those_of_differences() -> None:
    states, weight, bias, codes = case(6, 9, 4, 0, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda s, w, b: by_chunks(s, w, b, codes), (states, weight, bias)
    )


def test_chunks_have_as_many_states_as_fit_but_not_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def record(grads: list, states: Tensor, *rest: Tensor) -> None:
        seen.append(len(states))

    monkeypatch.setattr(stage2_prior.cross_entropy, "add_gradients", record)
    monkeypatch.setattr(stage2_prior.cross_entropy, "LEAST_STATES", 4)
    for fitting, sizes in ((7, [7, 3]), (2, [4, 4, 2]), (40, [10])):
        monkeypatch.setattr(stage2_prior.cross_entropy, "LOGITS_AT_ONCE", fitting * 9)
        seen.clear()
        states, weight, bias, codes = case(10, 9, 4, 3)
        by_chunks(states, weight, bias, codes)
        assert seen == sizes


def test_under_autocast_products_are_in_bfloat16_and_sums_in_float32() -> None:
    tensors = case(40, 200, 16, 1)
    with torch.autocast("cpu", torch.bfloat16):
        ours = loss_and_gradients(by_chunks, tensors, True)
        theirs = loss_and_gradients(at_once, tensors, True)
    exact = loss_and_gradients(at_once, tensors, True)
    assert all(mine.dtype == torch.float32 for mine in ours)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    for mine, other, true in zip(ours, theirs, exact, strict=True):
        error = (mine - true).norm()
        assert error <= 1.05 * (other - true).norm() + 1e-6, error
        assert error < 0.02 * true.norm()


def test_improbable_codes_have_a_finite_loss() -> None:
    weight = torch.tensor([[1000.0], [0.0], [-1000.0]])
    loss = by_chunks(torch.ones(1, 1), weight, None, torch.tensor([2]))
    assert loss.item() == 2000


def test_what_needs_no_gradient_gets_none() -> None:
    states, weight, bias, codes = case(6, 9, 4, 2)
    frozen = weight.detach()
    gradients = torch.autograd.grad(by_chunks(states, frozen, bias, codes), (states, bias))
    expected = torch.autograd.grad(at_once(states, frozen, bias, codes), (states, bias))
    torch.testing.assert_close(gradients, expected)
    with torch.no_grad():
        assert not by_chunks(states, weight, bias, codes).requires_grad


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("head", ["learned", "codebook"])
@pytest.mark.parametrize("ends", [False, True])
def test_the_linear_map_of_a_vocabulary_makes_its_logits(
    head: str, ends: bool, precision: str
) -> None:
    torch.manual_seed(0)
    vocabulary: LearnedVocabulary | CodebookVocabulary
    if head == "learned":
        vocabulary = LearnedVocabulary((20,), 20, ends, 8)
    else:
        vocabulary = CodebookVocabulary(20, 6, ends, 8)
        vocabulary.set_codebook(torch.randn(20, 6))
        torch.nn.init.normal_(vocabulary.output_bias)
    hidden = torch.randn(5, 8)
    low = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    with low, torch.no_grad():
        logits = vocabulary.logits(hidden)
        torch.testing.assert_close(F.linear(*vocabulary.linear(hidden)), logits)
    assert logits.shape[1] == 20 + ends


def test_many_targets_of_one_code_do_not_overflow_in_float16() -> None:
    """The sum of their gradients is beyond float16, their mean is not."""
    states, codes = torch.full((32_768, 8), 4.0), torch.zeros(32_768, dtype=torch.long)
    weight = torch.zeros(512, 8, requires_grad=True)
    bias = torch.zeros(512, requires_grad=True)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.float16, enabled=enabled):
            loss = linear_cross_entropy(states, weight, bias, codes, IGNORED) / len(codes)
        gradients.append(torch.autograd.grad(loss, weight)[0])
    assert gradients[1].isfinite().all()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-2, atol=1e-3)
