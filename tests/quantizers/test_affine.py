"""Affine: the shared scale and shift, inner steps, and the replacement of unused codes."""

import torch
import torch.nn.functional as F
from helpers.codebook_upkeep import FAR, upkeep_step, vectors

from stage1_tokenizer.quantizers import Affine


def test_affine_sends_nu_of_the_gradient_to_its_codes() -> None:
    torch.manual_seed(0)
    affine = Affine(codebook_size=5, code_dim=3, nu=0.5, start="normal")
    latents, upstream = vectors(20, 3)[None].requires_grad_(), vectors(20, 3, seed=2)[None]
    out = affine(latents)
    (out.latents * upstream).sum().backward()
    assert torch.equal(latents.grad, upstream)
    sums = torch.zeros(5, 3).index_add_(0, out.codes[0], upstream[0])
    torch.testing.assert_close(affine.table.grad, 0.5 * sums)
    torch.testing.assert_close(affine.shift.grad, 2 * 0.5 * sums.sum(0))


def test_affine_inner_steps_are_gradient_descent_on_the_codebook_loss() -> None:
    torch.manual_seed(0)
    affine = Affine(
        codebook_size=6, code_dim=4, inner_steps=4, inner_rate=1.5, replace_after=0, start="normal"
    )
    affine.scale.data.uniform_(-0.2, 0.2)
    affine.shift.data.normal_()
    latents = vectors(50)
    codes = affine.encode(latents)
    table = affine.table.detach().clone().requires_grad_()
    descent = torch.optim.SGD([table], lr=1.5)
    for _ in range(4):
        descent.zero_grad()
        codebook = (1 + 2 * affine.scale.detach()) * table + 2 * affine.shift.detach()
        F.mse_loss(codebook[codes], latents).backward()
        descent.step()
    upkeep_step(affine, latents)
    torch.testing.assert_close(affine.table, table, atol=1e-5, rtol=1e-4)


def test_affine_inner_steps_end_at_the_means() -> None:
    affine = Affine(codebook_size=3, code_dim=4, inner_steps=1, inner_rate=1e6, start="normal")
    latents = vectors(50)
    codes = upkeep_step(affine, latents)
    for code in codes.unique():
        mean = latents[codes == code].mean(0)
        torch.testing.assert_close(affine.codebook[code], mean, atol=1e-5, rtol=1e-4)


def test_affine_replaces_a_code_after_so_many_idle_steps_in_effect_by_a_vector() -> None:
    torch.manual_seed(0)
    affine = Affine(codebook_size=5, code_dim=4, replace_after=3, start="normal")
    affine.scale.data.uniform_(-0.2, 0.2)
    affine.shift.data.normal_()
    affine.table.data[2] = FAR
    alive = torch.tensor([0, 1, 3, 4])
    latents = affine.codebook.detach()[alive].repeat(10, 1) + 0.01 * vectors(40)
    before = affine.table.detach().clone()
    for _ in range(2):
        upkeep_step(affine, latents)
        assert torch.equal(affine.table, before)
    upkeep_step(affine, latents)
    assert torch.equal(affine.table[alive], before[alive])
    assert torch.cdist(affine.codebook[2:3], latents).min() < 1e-5
    assert affine.idle.tolist() == [0, 0, 0, 0, 0]


def test_affine_moves_all_codes_by_two_shared_vectors() -> None:
    torch.manual_seed(0)
    affine = Affine(codebook_size=9, code_dim=4, affine_rate=3.0, start="normal")
    affine.scale.data.copy_(vectors(4, 1)[:, 0])
    affine.shift.data.copy_(vectors(4, 1, seed=2)[:, 0])
    expected = affine.table + 3 * affine.table * affine.scale + 3 * affine.shift
    torch.testing.assert_close(affine.codebook, expected)
    affine(vectors(1)[None]).loss.backward()
    assert affine.scale.grad.abs().sum() > 0 and affine.shift.grad.abs().sum() > 0
