"""ResidualSimVQ: levels of SimVQ, each over what those before it leave."""

import torch
import torch.nn.functional as F
from helpers.quantizer_cases import DIM, vectors

from stage1_tokenizer.quantizers import ResidualSimVQ, SimVQ


def initialized() -> ResidualSimVQ:
    torch.manual_seed(0)
    quantizer = ResidualSimVQ(codebook_size=32, code_dim=DIM, levels=4)
    quantizer.init_from(vectors())
    return quantizer


def test_every_level_brings_the_sum_nearer() -> None:
    quantizer, latents = initialized(), vectors()
    errors = [
        F.mse_loss(part, latents).item() for part in quantizer.sums(quantizer.encode(latents))
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.3 * errors[0]


def test_the_first_level_is_a_simvq_and_the_loss_the_mean_over_levels() -> None:
    quantizer, latents = initialized(), vectors()
    one = SimVQ(codebook_size=32, code_dim=DIM)
    one.load_state_dict(quantizer.level(0).state_dict())
    left, losses = latents, []
    for level in range(4):
        out = quantizer.level(level)(left)
        losses.append(out.loss)
        left = left - quantizer.level(level).lookup(out.codes)
    out = quantizer(latents)
    assert torch.equal(out.codes[..., 0], one(latents).codes)
    torch.testing.assert_close(out.loss, torch.stack(losses).mean())


def test_a_level_learns_from_its_own_losses_alone() -> None:
    quantizer = initialized()
    out = quantizer(vectors())
    out.losses["codebook"].backward()
    whole = [level.projection.weight.grad.clone() for level in quantizer.levels]  # type: ignore[operator, union-attr]
    quantizer.zero_grad()
    left = vectors()
    for level in range(4):
        part = quantizer.level(level)(left)
        (part.losses["codebook"] / 4).backward()
        left = left - quantizer.level(level).lookup(part.codes).detach()
        grad = quantizer.level(level).projection.weight.grad  # type: ignore[union-attr]
        torch.testing.assert_close(grad, whole[level])
