"""FSQ and LFQ, whose codes are fixed: bijections, ends, entropies, and an independent implementation."""

import math

import pytest
import torch
import vector_quantize_pytorch as library

from stage1_tokenizer.quantizers import FSQ, LFQ, FSQConfig, LFQConfig
from stage1_tokenizer.quantizers.lfq import bit_entropy, mean_joint
from stage1_tokenizer.quantizers.losses import entropy
from stage1_tokenizer.quantizers.search import nearest

LEVELS = [(8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (3, 4), (4,), (256, 3), (3, 5, 4, 16)]


@pytest.mark.parametrize("levels", LEVELS)
def test_fsqs_codes_and_grid_points_are_one_to_one(levels: tuple[int, ...]) -> None:
    quantizer = FSQ(levels=levels)
    grid = quantizer.codebook
    assert grid.shape == (math.prod(levels), len(levels)) == (quantizer.spec.alphabet, len(levels))
    assert len(grid.unique(dim=0)) == len(grid)
    half = torch.tensor(levels) // 2
    assert torch.equal(quantizer._codes((grid * half).round()), torch.arange(len(grid)))
    for channel, size in enumerate(levels):
        assert len(grid[:, channel].unique()) == size


@pytest.mark.parametrize("levels", LEVELS)
def test_fsq_reaches_every_level_and_saturates_at_the_ends(levels: tuple[int, ...]) -> None:
    quantizer = FSQ(levels=levels)
    line = torch.linspace(-12, 12, 20_001)[:, None].expand(-1, len(levels))
    found = quantizer.lookup(quantizer.encode(line))
    for channel, size in enumerate(levels):
        assert len(found[:, channel].unique()) == size
    assert (found[1:] >= found[:-1]).all()
    least, most = quantizer.codebook.amin(0), quantizer.codebook.amax(0)
    for size in (1e2, 1e6, math.inf):
        ends = torch.tensor([-size, size])[:, None].expand(-1, len(levels))
        assert torch.equal(quantizer.lookup(quantizer.encode(ends)), torch.stack([least, most]))
    assert torch.equal(quantizer.lookup(quantizer.encode(torch.zeros(len(levels)))), 0 * least)


def test_fsqs_levels_are_symmetric_about_zero_up_to_their_parity() -> None:
    """The tangent in place of the inverse tanh, as in the authors' notebook, shifts even levels."""
    quantizer = FSQ(levels=(8,))
    bounded = quantizer._bounded(torch.zeros(1, 1))
    torch.testing.assert_close(bounded, torch.zeros(1, 1), atol=1e-6, rtol=0)
    bounded = quantizer._bounded(torch.tensor([[-50.0], [50.0]]))[:, 0]
    torch.testing.assert_close(bounded.sum(), torch.tensor(-1.0))


def test_fsq_is_the_librarys() -> None:
    for levels in LEVELS:
        latents = 3 * torch.randn(4, 500, len(levels), generator=torch.Generator().manual_seed(0))
        mine, theirs = FSQ(levels=levels), library.FSQ(list(levels))
        ours = latents.clone().requires_grad_()
        other = latents.clone().requires_grad_()
        out = mine(ours)
        quantized, codes = theirs(other)
        assert torch.equal(out.codes, codes.long())
        torch.testing.assert_close(out.latents, quantized)
        torch.testing.assert_close(mine.codebook, theirs.implicit_codebook)
        probe = torch.randn_like(latents)
        (out.latents * probe).sum().backward()
        (quantized * probe).sum().backward()
        torch.testing.assert_close(ours.grad, other.grad)


@pytest.mark.parametrize("bits", [1, 2, 7, 10])
def test_lfqs_codes_and_corners_are_one_to_one(bits: int) -> None:
    quantizer = LFQ(codebook_size=2**bits)
    corners = quantizer.codebook
    assert corners.shape == (2**bits, bits) and corners.abs().unique().tolist() == [1]
    assert torch.equal(quantizer.encode(corners), torch.arange(2**bits))
    latents = torch.randn(300, bits, generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.encode(latents), nearest(latents, corners))
    assert quantizer.encode(torch.zeros(bits)) == 0


def dense_entropies(latents: torch.Tensor, quantizer: LFQ) -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's expression, over all K corners."""
    scores = 2 * latents @ quantizer.codebook.to(latents).T / quantizer.config.temperature
    shares = scores.softmax(1)
    return entropy(shares).mean(), entropy(shares.mean(0))


@pytest.mark.parametrize("bits", [1, 3, 8, 10])
def test_lfqs_entropies_are_the_dense_ones(bits: int) -> None:
    quantizer = LFQ(codebook_size=2**bits, temperature=1.0)
    latents = torch.randn(200, bits, dtype=torch.float64).mul(0.7).requires_grad_()
    each, batch = dense_entropies(latents, quantizer)
    torch.testing.assert_close(bit_entropy(4 * latents).sum(1).mean(), each)
    torch.testing.assert_close(entropy(mean_joint(4 * latents)), batch)
    (wanted,) = torch.autograd.grad(each - batch, latents)
    (found,) = torch.autograd.grad(quantizer.entropy_term(latents), latents)
    torch.testing.assert_close(found, wanted)


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


def test_lfq_holds_no_matrix_of_n_by_k() -> None:
    from helpers.quantizer_cases import LargestTensor

    quantizer = LFQ(codebook_size=2**16)
    latents = torch.randn(1, 1024, 16, requires_grad=True)
    with LargestTensor() as watched:
        quantizer(latents).loss.backward()
    assert watched.elements < 1024 * 2**16 / 8


@pytest.mark.parametrize("levels", [(), (2, 5), (300,), (256, 256, 256)])
def test_impossible_levels_are_refused_in_words(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"set model\.quantizer\.levels"):
        FSQConfig(levels=levels)


@pytest.mark.parametrize("size", [0, 1, 100, 2**23])
def test_a_codebook_size_that_is_no_power_of_two_is_refused_in_words(size: int) -> None:
    with pytest.raises(ValueError, match=r"set model\.quantizer\.codebook_size"):
        LFQConfig(codebook_size=size)
