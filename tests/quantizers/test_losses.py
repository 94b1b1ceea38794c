"""Codebook and commitment losses as formulas; the Wasserstein distance of Gaussians."""

import numpy as np
import pytest
import torch
from helpers.quantizer_cases import normal

from stage1_tokenizer.quantizers import EMA, FC, LC, VQ, Affine, Quantizer, SimVQ
from stage1_tokenizer.quantizers.losses import gaussian_wasserstein

LOSSES: dict[str, Quantizer] = {
    "ema": EMA(codebook_size=6, code_dim=3, weight=2.0, beta=0.3, start="normal"),
    "affine": Affine(codebook_size=6, code_dim=3, weight=2.0, beta=0.3, start="normal"),
    "lc": LC(codebook_size=6, code_dim=3, weight=2.0, beta=0.3),
    "simvq": SimVQ(codebook_size=6, code_dim=3, weight=2.0, beta=0.3, map="diagonal"),
    "fc": FC(codebook_size=6, code_dim=3, weight=2.0, beta=0.3),
    "vq": VQ(codebook_size=6, code_dim=3, weight=2.0, beta=0.3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_formulas_and_go_where_they_should(name: str) -> None:
    quantizer, latents = LOSSES[name], normal(1, 11, 3).requires_grad_()
    out = quantizer(latents)
    z = latents.detach().double()[0]
    z = z / z.norm(dim=1, keepdim=True) if name == "fc" else z
    squares = (z - quantizer.codebook.detach().double()[out.codes[0]]) ** 2
    mean = squares.sum().item() / 33
    assert out.losses["commitment"].item() == pytest.approx(2 * 0.3 * mean, rel=1e-5)
    learned = list(quantizer.parameters())
    gradients = torch.autograd.grad(
        out.losses["commitment"], [latents, *learned], allow_unused=True, retain_graph=True
    )
    assert gradients[0].abs().sum() > 0 and all(gradient is None for gradient in gradients[1:])
    if name == "ema":
        assert out.losses.keys() == {"commitment"}
        return
    assert out.losses["codebook"].item() == pytest.approx(2 * mean, rel=1e-5)
    gradients = torch.autograd.grad(out.losses["codebook"], [latents, *learned], allow_unused=True)
    assert gradients[0] is None and any(gradient is not None for gradient in gradients[1:])


def test_wasserstein_distance_of_known_gaussians() -> None:
    scipy_linalg = pytest.importorskip("scipy.linalg")
    first, second = normal(500, 5) @ normal(5, 5, seed=2) + 1, 2 * normal(400, 5, seed=3)
    a, b = (np.cov(x.numpy().T.astype(np.float64), bias=True) for x in (first, second))
    root = scipy_linalg.sqrtm(a)
    middle = scipy_linalg.sqrtm(root @ b @ root).real
    expected = np.sum((first.mean(0) - second.mean(0)).numpy() ** 2) + np.trace(a + b - 2 * middle)
    assert gaussian_wasserstein(first, second).item() == pytest.approx(expected**0.5, rel=1e-3)
    assert gaussian_wasserstein(first, first + 3).item() == pytest.approx(3 * 5**0.5, rel=1e-4)
    assert gaussian_wasserstein(first, first.flip(0)).item() < 0.01


def test_wasserstein_gradient_is_that_of_finite_differences_and_finite_where_degenerate() -> None:
    first, second = normal(30, 3).requires_grad_(), normal(20, 3, seed=2).requires_grad_()
    gaussian_wasserstein(first, second).backward()
    for cloud in (first, second):
        moved = [cloud.detach().clone() for _ in range(2)]
        moved[0][4, 1] += 1e-2
        moved[1][4, 1] -= 1e-2
        values = [
            gaussian_wasserstein(x, second) if cloud is first else gaussian_wasserstein(first, x)
            for x in moved
        ]
        slope = (values[0] - values[1]).item() / 2e-2
        assert cloud.grad[4, 1].item() == pytest.approx(slope, rel=0.05, abs=1e-3)
    for flat in (torch.zeros(10, 3), torch.eye(3), torch.ones(1, 3)):
        flat = flat.clone().requires_grad_()
        gaussian_wasserstein(flat, torch.eye(3)).backward()
        assert flat.grad.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e20])
def test_the_distance_of_clouds_that_are_not_finite_is_no_error(bad: float) -> None:
    """A step with such a loss is skipped."""
    first = normal(20, 3)
    first[0] = bad
    first.requires_grad_()
    distance = gaussian_wasserstein(first, normal(30, 3, seed=2))
    distance.backward()
    assert not distance.isfinite() or distance > 1e9
