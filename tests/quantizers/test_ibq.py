"""IBQ: its gradient against explicit one-hot codes, its entropies against dense ones."""

import pytest
import torch
import torch.nn.functional as F
from helpers.quantizer_cases import LargestTensor, assert_same_gradients
from torch import Tensor

from stage1_tokenizer.quantizers import IBQ
from stage1_tokenizer.quantizers.ibq import by_index, entropy_term
from stage1_tokenizer.quantizers.losses import entropy
from stage1_tokenizer.quantizers.search import max_inner_product


def doubles(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


def test_attention_gives_the_value_and_gradients_of_one_hot_codes() -> None:
    latents, codebook = doubles(60, 5, seed=0), doubles(30, 5, seed=1)
    codes = (latents @ codebook.T).argmax(1)
    ours = by_index(latents, codebook, codebook[codes])
    probabilities = (latents @ codebook.T).softmax(1)
    hard = F.one_hot(codes, 30).to(probabilities)
    theirs = (hard - probabilities.detach() + probabilities) @ codebook
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    assert torch.equal(ours, codebook[codes])
    probe = doubles(60, 5, seed=2).detach()
    actual = torch.autograd.grad((ours * probe).sum(), (latents, codebook))
    expected = torch.autograd.grad((theirs * probe).sum(), (latents, codebook))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    assert (actual[1].abs().sum(1) > 0).all()


@pytest.mark.parametrize("tile", [None, 1, 30, 100, 10_000])
def test_entropies_in_chunks_are_the_dense_ones(tile: int | None) -> None:
    latents, codebook = doubles(60, 5, seed=0), doubles(30, 5, seed=1)
    probabilities = (latents @ codebook.T).softmax(1)
    expected = entropy(probabilities).mean() - entropy(probabilities.mean(0))
    actual = entropy_term(latents, codebook, tile)
    assert_same_gradients(actual, expected, latents, codebook)


@pytest.mark.parametrize("tile", [None, 1, 7, 100])
def test_codes_have_the_largest_dot_product(tile: int | None) -> None:
    latents, codebook = doubles(80, 4, seed=3).detach(), doubles(50, 4, seed=4).detach()
    products = latents @ codebook.T
    actual = products.gather(1, max_inner_product(latents, codebook, tile)[:, None])[:, 0]
    torch.testing.assert_close(actual, products.amax(1), atol=1e-5, rtol=1e-5)
    assert max_inner_product(torch.eye(2), torch.eye(2).repeat(3, 1), tile).tolist() == [0, 1]


def test_each_loss_is_its_formula() -> None:
    torch.manual_seed(0)
    quantizer = IBQ(codebook_size=20, code_dim=3, weight=2.0, beta=0.7, codebook_weight=0.3)
    latents = torch.randn(2, 9, 3, requires_grad=True)
    out = quantizer(latents)
    error = (quantizer.table[out.codes] - latents).square().mean()
    assert out.losses["double"].item() == pytest.approx(2 * error.item())
    assert out.losses["codebook"].item() == pytest.approx(2 * 0.3 * error.item())
    assert out.losses["commitment"].item() == pytest.approx(2 * 0.7 * error.item())
    gradients = {
        name: torch.autograd.grad(
            loss, (latents, quantizer.table), retain_graph=True, allow_unused=True
        )
        for name, loss in out.losses.items()
    }
    assert gradients["codebook"][0] is None and gradients["commitment"][1] is None
    for name in ("double", "entropy"):
        assert all(part is not None and part.abs().sum() > 0 for part in gradients[name])
    assert "entropy" not in IBQ(codebook_size=4, code_dim=3, entropy_weight=0.0)(latents).losses


def test_no_matrix_of_n_by_k() -> None:
    quantizer = IBQ(codebook_size=8192, code_dim=8)
    latents = torch.randn(1, 2048, 8, requires_grad=True)
    with LargestTensor() as watched:
        out = quantizer(latents)
        (out.loss + out.latents.sum()).backward()
    assert watched.elements < 2048 * 8192 / 4
