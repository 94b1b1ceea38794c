"""Gradient estimators: values to the last bit, and the gradients that they promise."""

import torch
import torch.nn.functional as F
from helpers.quantizer_cases import normal

from stage1_tokenizer.quantizers.estimators import rotation_trick, straight_through, synchronised


def test_the_synchronised_gradient_is_the_decoders_and_nu_times_its_sum() -> None:
    z, table = normal(7, 3).requires_grad_(), normal(4, 3, seed=2).requires_grad_()
    codes = torch.tensor([0, 1, 1, 2, 0, 1, 2])
    upstream = normal(7, 3, seed=3)
    out = synchronised(z, table[codes], 0.7)
    assert torch.equal(out, table[codes])
    (out * upstream).sum().backward()
    assert torch.equal(z.grad, upstream)
    expected = 0.7 * torch.zeros(4, 3).index_add_(0, codes, upstream)
    torch.testing.assert_close(table.grad, expected)


def test_the_rotation_keeps_angles_and_scales_norms() -> None:
    torch.manual_seed(0)
    z, q = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    assert torch.equal(rotation_trick(z, q), q)
    upstream = torch.randn(6, 5)
    (gradient,) = torch.autograd.grad((rotation_trick(z, q) * upstream).sum(), z)
    ratio = q.norm(dim=1) / z.norm(dim=1)
    torch.testing.assert_close(gradient.norm(dim=1), ratio * upstream.norm(dim=1))
    angle = F.cosine_similarity(upstream, q)
    torch.testing.assert_close(F.cosine_similarity(gradient, z.detach()), angle)
    zero = torch.zeros(1, 5, requires_grad=True)
    (at_zero,) = torch.autograd.grad(rotation_trick(zero, q[:1]).sum(), zero)
    assert torch.isfinite(at_zero).all()


def test_straight_through_keeps_the_value_to_the_last_bit() -> None:
    z, q = torch.randn(100, requires_grad=True) * 1e3, torch.randn(100) * 1e-3
    assert torch.equal(straight_through(z, q), q)
