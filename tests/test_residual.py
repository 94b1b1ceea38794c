"""Quantizers with several codes per position: sums of levels, and what each level adds."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stage1_tokenizer.quantizers import QINCo
from stage1_tokenizer.quantizers.search import TILE

DIM, LEVELS, K = 6, 3, 12


def vectors(seed: int = 1, n: int = 150) -> Tensor:
    return torch.randn(2, n, DIM, generator=torch.Generator().manual_seed(seed)) + 1.5


def qinco(**options: object) -> QINCo:
    torch.manual_seed(0)
    made = QINCo(codebook_size=K, code_dim=DIM, levels=LEVELS, hidden=8, **options)
    made.init_from(vectors())
    return made


def away_from_zero(quantizer: QINCo) -> QINCo:
    """Networks that change the codes, as trained ones do."""
    for parameter in quantizer.networks.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return quantizer


def residual_by_hand(latents: Tensor, tables: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Codes and sums after each level, by brute force in float64."""
    left, total, codes, sums = latents.double(), 0, [], []
    for table in tables.double():
        found = torch.cdist(left, table, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
        left, total = left - table[found], total + table[found]
        codes.append(found)
        sums.append(total)
    return torch.stack(codes, -1), sums


def test_qinco_starts_as_a_residual_quantizer_with_gradient_codebooks() -> None:
    quantizer, latents = qinco(beta=0.5, weight=2.0), vectors(2).requires_grad_()
    out = quantizer(latents)
    tables = quantizer.tables.detach().double().requires_grad_()
    codes, sums = residual_by_hand(latents.detach(), tables)
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.latents.detach().double(), sums[-1].detach())
    expected = 2 * sum(F.mse_loss(part, latents.detach().double()) for part in sums)
    torch.testing.assert_close(out.losses["codebook"].detach().double(), expected.detach())
    expected.backward()
    out.loss.backward()
    torch.testing.assert_close(quantizer.tables.grad.double(), tables.grad, atol=1e-6, rtol=1e-5)
    pull = 2 * 0.5 * 2 * (latents.detach() - sums[-1].detach().float()) / latents.numel()
    torch.testing.assert_close(latents.grad, pull)


def test_qincos_tiles_find_what_all_candidates_at_once_say(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer, latents = away_from_zero(qinco()), vectors(3, n=20).flatten(0, 1)
    total, expected = torch.zeros_like(latents), []
    for level, table in enumerate(quantizer.tables):
        candidates = table.expand(len(latents), -1, -1)
        if level:
            candidates = quantizer.networks[level - 1](candidates, total[:, None])
        distances = (latents[:, None] - total[:, None] - candidates).square().sum(-1)
        expected.append(distances.argmin(1))
        total = total + candidates[torch.arange(len(latents)), expected[-1]]
    for tile in (2**21, 8 * 7, 8 * 5 * K, 8):
        monkeypatch.setitem(TILE, "cpu", tile)
        assert torch.equal(quantizer.encode(latents), torch.stack(expected, -1))
    torch.testing.assert_close(quantizer.lookup(torch.stack(expected, -1)), total)


def test_a_prefix_of_codes_stands_for_the_sum_so_far() -> None:
    quantizer = away_from_zero(qinco())
    codes = quantizer.encode(vectors(4))
    whole = quantizer.sums(codes)
    for levels in range(1, LEVELS + 1):
        torch.testing.assert_close(
            quantizer.sums(codes[..., :levels])[-1], whole[levels - 1], atol=0, rtol=0
        )
    torch.testing.assert_close(quantizer.lookup(codes), whole[-1], atol=0, rtol=0)


def test_training_makes_qincos_networks_better_than_fixed_codebooks() -> None:
    torch.manual_seed(1)
    centres, directions = 4 * torch.randn(
        2, K, DIM
    )  # clusters, each long in a direction of its own
    latents = centres + torch.randn(25, K, 1) * directions / 8
    errors = []
    for trains_networks in (False, True):
        quantizer = qinco()
        quantizer.init_from(latents)
        trained = quantizer.parameters() if trains_networks else [quantizer.tables]
        optimizer = torch.optim.Adam(trained, lr=1e-2)
        for _ in range(50):
            optimizer.zero_grad()
            quantizer(latents).losses["codebook"].backward()
            optimizer.step()
        errors.append(float(F.mse_loss(quantizer(latents).latents, latents).detach()))
    assert errors[1] < 0.7 * errors[0]


def test_one_level_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"levels=1 .* model\.quantizer\.levels"):
        QINCo(levels=1)
