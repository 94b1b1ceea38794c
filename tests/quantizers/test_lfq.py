"""LFQ: bijections, entropies, and an independent implementation."""

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as library

from stage1_tokenizer.quantizers import LFQ, LFQConfig
from stage1_tokenizer.quantizers.lfq import binary_entropy, mean_joint
from stage1_tokenizer.quantizers.losses import entropy
from stage1_tokenizer.quantizers.search import nearest


def dense_entropies(latents: torch.Tensor, quantizer: LFQ) -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's expression, over all K corners."""
    scores = 2 * latents @ quantizer.codebook.to(latents).T / quantizer.config.temperature
    probabilities = scores.softmax(1)
    return entropy(probabilities).mean(), entropy(probabilities.mean(0))


@pytest.mark.parametrize("bits", [1, 2, 7, 10])
def test_lfqs_codes_and_corners_are_one_to_one(bits: int) -> None:
    quantizer = LFQ(codebook_size=2**bits)
    corners = quantizer.codebook
    assert corners.shape == (2**bits, bits) and corners.abs().unique().tolist() == [1]
    assert torch.equal(quantizer.encode(corners), torch.arange(2**bits))
    latents = torch.randn(300, bits, generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.encode(latents), nearest(latents, corners))
    assert quantizer.encode(torch.zeros(bits)) == 0


@pytest.mark.parametrize("bits", [1, 3, 8, 10])
def test_lfqs_entropies_are_the_dense_ones(bits: int) -> None:
    quantizer = LFQ(codebook_size=2**bits, temperature=1.0)
    latents = torch.randn(200, bits, dtype=torch.float64).mul(0.7).requires_grad_()
    each, batch = dense_entropies(latents, quantizer)
    torch.testing.assert_close(binary_entropy(4 * latents).sum(1).mean(), each)
    torch.testing.assert_close(entropy(mean_joint(4 * latents)), batch)
    (expected,) = torch.autograd.grad(each - batch, latents)
    (actual,) = torch.autograd.grad(quantizer.entropy_term(latents), latents)
    torch.testing.assert_close(actual, expected)


def test_lfqs_batch_entropy_by_groups_is_an_upper_bound() -> None:
    latents = torch.randn(50, 9, generator=torch.Generator().manual_seed(1))
    terms = [
        LFQ(codebook_size=512, group_bits=bits, temperature=1.0).entropy_term(latents)
        for bits in (1, 2, 3, 5, 9)
    ]
    each, batch = dense_entropies(latents, LFQ(codebook_size=512, temperature=1.0))
    batches = [each - term for term in terms]
    torch.testing.assert_close(batches[-1], batch)
    assert all(bound >= batch - 1e-5 for bound in batches) and batches[0] > batch + 0.1


def test_lfq_is_the_librarys() -> None:
    latents = 0.02 * torch.randn(3, 70, 8, generator=torch.Generator().manual_seed(0))
    mine = LFQ(codebook_size=256)
    theirs = library.LFQ(codebook_size=256, entropy_loss_weight=0.1, commitment_loss_weight=0.25)
    out = mine(latents)
    quantized, codes, loss = theirs(latents)
    assert torch.equal(out.codes, codes.long())
    torch.testing.assert_close(out.latents, quantized)
    torch.testing.assert_close(out.loss, loss, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("bits", [2, 7])
def test_bsq_is_the_papers_on_the_unit_sphere(bits: int) -> None:
    quantizer = LFQ(codebook_size=2**bits, spherical=True, temperature=0.3)
    corners = quantizer.codebook
    torch.testing.assert_close(corners.norm(dim=1), torch.ones(2**bits))
    latents = 5 * torch.randn(1, 300, bits, generator=torch.Generator().manual_seed(0))
    out, on_sphere = quantizer(latents), F.normalize(latents[0], dim=1)
    assert torch.equal(out.codes, quantizer.encode(latents))
    assert torch.equal(out.codes[0], nearest(on_sphere, corners))
    torch.testing.assert_close(out.latents[0], corners[out.codes[0]])
    error = (on_sphere - out.latents[0]).square().sum(1)
    assert error.max() <= 2 - 2 / bits**0.5 + 1e-5  # equation 9
    torch.testing.assert_close(out.losses["commitment"], 0.25 * error.mean() / bits)
    each, batch = dense_entropies(on_sphere, quantizer)
    torch.testing.assert_close(out.losses["entropy"], 0.1 * (each - batch))


def test_bsqs_gradient_has_no_part_along_the_latent() -> None:
    latents = torch.randn(1, 40, 5, requires_grad=True)
    out = LFQ(codebook_size=32, spherical=True)(latents)
    (gradient,) = torch.autograd.grad((out.latents * torch.randn(5)).sum() + out.loss, latents)
    assert gradient.norm() > 0
    torch.testing.assert_close((gradient * latents).sum(-1), torch.zeros(1, 40), atol=1e-5, rtol=0)


def test_lfq_holds_no_matrix_of_n_by_k() -> None:
    from helpers.quantizer_cases import LargestTensor

    quantizer = LFQ(codebook_size=2**16)
    latents = torch.randn(1, 1024, 16, requires_grad=True)
    with LargestTensor() as watched:
        quantizer(latents).loss.backward()
    assert watched.elements < 1024 * 2**16 / 8


@pytest.mark.parametrize("size", [0, 1, 100, 2**23])
def test_a_codebook_size_that_is_no_power_of_two_is_refused_in_words(size: int) -> None:
    with pytest.raises(ValueError, match=r"set model\.quantizer\.codebook_size"):
        LFQConfig(codebook_size=size)
