"""VQ-WAE: the transport plan's marginals and cost against an exact solver, gradients of the cost."""

import pytest
import torch
from helpers.quantizer_cases import assert_same_gradients, normal
from scipy.optimize import linear_sum_assignment

from stage1_tokenizer.quantizers import WAE, WAEConfig
from stage1_tokenizer.quantizers.wae import sinkhorn, transport_cost


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("offset", [0.0, 20.0])
@pytest.mark.parametrize(("n", "k", "d"), [(300, 40, 2), (64, 128, 8), (200, 200, 32)])
def test_vectors_and_codes_are_equally_heavy(
    n: int, k: int, d: int, scale: float, offset: float
) -> None:
    defaults = WAEConfig()
    latents, codebook = scale * normal(n, d, seed=0) + offset, normal(k, d, seed=1)
    plan = sinkhorn(latents, codebook, defaults.epsilon, defaults.iterations)
    torch.testing.assert_close(n * plan.sum(1), torch.ones(n), atol=1e-3, rtol=0)
    torch.testing.assert_close(k * plan.sum(0), torch.ones(k), atol=0.05, rtol=0)
    more = sinkhorn(latents, codebook, defaults.epsilon, 2000)
    torch.testing.assert_close(k * more.sum(0), torch.ones(k), atol=1e-3, rtol=0)


def test_the_cost_is_that_of_the_best_matching() -> None:
    latents, codebook = normal(100, 4, seed=0), normal(100, 4, seed=1)
    squares = torch.cdist(latents, codebook).square()
    best = squares[linear_sum_assignment(squares.numpy())].mean().item()
    cost = transport_cost(latents, codebook, sinkhorn(latents, codebook, 0.01, 3000)).item()
    assert cost == pytest.approx(best, rel=0.02)
    assert best >= squares.amin(1).mean().item()
    blunt = transport_cost(latents, codebook, sinkhorn(latents, codebook, 0.1, 50)).item()
    assert blunt >= best


def test_the_cost_and_its_gradients_are_those_of_the_matrix_of_distances() -> None:
    latents = (normal(60, 3, seed=0).double() + 5).requires_grad_()
    codebook = (normal(20, 3, seed=1).double() + 5).requires_grad_()
    plan = sinkhorn(latents.detach(), codebook.detach(), 0.1, 50)
    actual = transport_cost(latents, codebook, plan)
    expected = (plan * torch.cdist(latents, codebook).square()).sum()
    assert_same_gradients(actual, expected, latents, codebook)


def test_unused_codes_are_pulled_to_the_vectors() -> None:
    """All codes but one start far away; the transport brings every one of them into use."""
    torch.manual_seed(0)
    quantizer = WAE(codebook_size=16, code_dim=2)
    with torch.no_grad():
        quantizer.table[1:] += 10
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.1)
    latents = normal(1, 500, 2, seed=3)
    assert len(quantizer(latents).codes.unique()) == 1
    for _ in range(200):
        optimizer.zero_grad()
        quantizer(latents).loss.backward()
        optimizer.step()
    counts = torch.bincount(quantizer(latents).codes[0], minlength=16)
    assert counts.min() > 0.3 * 500 / 16


def test_of_more_vectors_some_take_part() -> None:
    torch.manual_seed(0)
    quantizer = WAE(codebook_size=8, code_dim=2, most_vectors=10, weight=3.0)
    latents = normal(1, 100, 2, seed=0).requires_grad_()
    for training in (True, False):
        losses = quantizer.train(training)(latents).losses
        (gradient,) = torch.autograd.grad(losses["transport"], latents)
        assert (gradient[0].abs().sum(1) > 0).sum() == 10
    some = latents[0, ::10]
    cost = transport_cost(some, quantizer.codebook, sinkhorn(some, quantizer.codebook, 0.1, 50))
    torch.testing.assert_close(losses["transport"], 3 * cost / 2)
