"""CVQ: anchors for unused codes, and the contrastive loss, against brute force and by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.codebook_upkeep import FAR, upkeep_step, vectors

from stage1_tokenizer.quantizers import CVQ
from stage1_tokenizer.quantizers.cvq import closest, contrastive_loss, sample_near


def test_cvq_moves_unused_codes_to_anchors_and_leaves_used_ones() -> None:
    for anchor in ("closest", "random"):
        torch.manual_seed(0)
        cvq = CVQ(codebook_size=8, code_dim=4, anchor=anchor, start="data")
        latents = vectors(400)
        cvq.init_from(latents)
        cvq.table.data[5] = FAR
        before = cvq.table.detach().clone()
        counts = cvq.encode(latents).bincount(minlength=8)
        upkeep_step(cvq, latents)
        usage = 0.01 * counts / 400
        torch.testing.assert_close(cvq.usage, usage)
        alpha = torch.exp(-10 * 8 * usage / 0.01 - 1e-3)
        assert alpha[5] > 0.99
        assert (cvq.table - before)[alpha < 1e-4].abs().max() < 1e-2
        landed = before[5] + (cvq.table[5] - before[5]) / alpha[5]
        assert torch.cdist(landed[None], latents).min() < 1e-3
        if anchor == "closest":
            nearest = latents[torch.cdist(before[5:6], latents).argmin()]
            torch.testing.assert_close(cvq.table[5], before[5].lerp(nearest, alpha[5]))


def test_the_closest_vector_is_that_of_brute_force() -> None:
    codebook, latents = vectors(30, seed=3), vectors(200)
    expected = latents[torch.cdist(codebook, latents).argmin(1)]
    assert torch.equal(closest(codebook, latents), expected)


def test_near_vectors_are_sampled_by_the_softmax_of_the_distance() -> None:
    code, pool = torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.5], [5.0, 5.0]])
    uniform = (torch.arange(100_000) + 0.5) / 100_000
    chosen = sample_near(code.expand(100_000, 2), pool, uniform)
    frequencies = torch.tensor([(chosen == vector).all(1).float().mean() for vector in pool])
    expected = torch.softmax(-torch.tensor([0.0, 1.0, 2.25, 50.0]), 0)
    torch.testing.assert_close(frequencies, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 25, 200])
def test_the_contrastive_loss_is_cross_entropy_over_sorted_distances(count: int) -> None:
    """N / K nearest vectors as one mean against the farther half, whichever chunks it is computed in."""
    codebook, latents = vectors(30, seed=3).requires_grad_(), vectors(count) + 2
    sorted_ = -torch.cdist(codebook.double(), latents.double()).square().sort(1).values
    positive = sorted_[:, : max(count // 30, 1)].mean(1, keepdim=True)
    logits = torch.cat([positive, sorted_[:, count - count // 2 :]], 1) / 0.07
    expected = F.cross_entropy(logits, torch.zeros(30, dtype=torch.int64))
    (slope,) = torch.autograd.grad(expected, codebook)
    for most in (None, 7 * count):
        actual = contrastive_loss(codebook, latents, most)
        torch.testing.assert_close(actual.double(), expected, atol=1e-4, rtol=1e-4)
        (actual_slope,) = torch.autograd.grad(actual, codebook)
        torch.testing.assert_close(actual_slope, slope.float(), atol=1e-3, rtol=1e-4)


def test_the_contrastive_loss_by_hand_for_one_code() -> None:
    """Squared distances 1, 4, 9 and 16: the nearest against the two farthest."""
    code, latents = torch.zeros(1, 1), torch.tensor([[1.0], [-2.0], [3.0], [-4.0]]) * 0.1
    near = sum(-value / 100 for value in (1, 4, 9, 16)) / 4  # one code: all four are its N / K
    terms = [math.exp(value / 0.07) for value in (near, -0.09, -0.16)]
    expected = -math.log(terms[0] / sum(terms))
    assert contrastive_loss(code, latents).item() == pytest.approx(expected, rel=1e-5)


def test_the_contrastive_loss_is_off_by_default_and_moves_codes_alone() -> None:
    torch.manual_seed(0)
    latents = (0.1 * vectors(50))[None].requires_grad_()
    assert "contrastive" not in CVQ(codebook_size=8, code_dim=4)(latents).losses
    cvq = CVQ(codebook_size=8, code_dim=4, contrastive_weight=0.5)
    loss = cvq(latents).losses["contrastive"]
    torch.testing.assert_close(loss, 0.5 * contrastive_loss(cvq.codebook, latents.detach()[0]))
    slope, nothing = torch.autograd.grad(loss, [cvq.table, latents], allow_unused=True)
    assert slope.abs().sum(1).gt(0).all() and nothing is None
