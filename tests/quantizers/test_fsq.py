"""FSQ: bijections, ends, and an independent implementation."""

import math

import pytest
import torch
import vector_quantize_pytorch as library

from stage1_tokenizer.quantizers import FSQ, FSQConfig
from stage1_tokenizer.quantizers.fsq import MARGIN

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
    points = quantizer.lookup(quantizer.encode(line))
    for channel, size in enumerate(levels):
        assert len(points[:, channel].unique()) == size
    assert (points[1:] >= points[:-1]).all()
    least, most = quantizer.codebook.amin(0), quantizer.codebook.amax(0)
    for size in (1e2, 1e6, math.inf):
        ends = torch.tensor([-size, size])[:, None].expand(-1, len(levels))
        assert torch.equal(quantizer.lookup(quantizer.encode(ends)), torch.stack([least, most]))
    assert torch.equal(quantizer.lookup(quantizer.encode(torch.zeros(len(levels)))), 0 * least)


def test_a_channel_that_is_nan_has_a_code_of_the_alphabet() -> None:
    quantizer = FSQ(levels=(8, 5, 5))
    latents = torch.tensor([[0.3, torch.nan, -0.2], [torch.nan, torch.nan, torch.nan]])
    codes = quantizer.encode(latents)
    assert (codes >= 0).all() and (codes < 200).all()
    assert torch.equal(quantizer(latents[None]).codes[0], codes)


def test_fsqs_levels_are_symmetric_about_zero_up_to_their_parity() -> None:
    """The tangent in place of the inverse tanh, as in the authors' notebook, shifts even levels."""
    quantizer = FSQ(levels=(8,))
    bounded = quantizer._bounded(torch.zeros(1, 1))
    torch.testing.assert_close(bounded, torch.zeros(1, 1), atol=1e-6, rtol=0)
    bounded = quantizer._bounded(torch.tensor([[-50.0], [50.0]]))[:, 0]
    torch.testing.assert_close(bounded.sum(), torch.tensor(-1.0))


def test_ifsqs_bound_is_the_papers() -> None:
    latents = 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    bounded = FSQ(levels=(5, 17), gain=0.8)._bounded(latents)
    half = torch.tensor([2.0, 8.0]) * (1 + MARGIN)
    torch.testing.assert_close(bounded, half * (2 * torch.sigmoid(1.6 * latents) - 1))


def test_ifsq_fills_levels_more_alike_than_fsq_where_latents_are_normal() -> None:
    """The end levels are half as wide: the others are looked at."""
    latents = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))

    def spread(gain: float) -> float:
        counts = FSQ(levels=(17,), gain=gain).encode(latents).bincount(minlength=17)[1:-1]
        return float(counts.max() / counts.min())

    assert spread(0.8) < 1.25 < 1.5 < spread(1.0)


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


@pytest.mark.parametrize("levels", [(), (2, 5), (300,), (256, 256, 256)])
def test_impossible_levels_are_refused_in_words(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"set model\.quantizer\.levels"):
        FSQConfig(levels=levels)
