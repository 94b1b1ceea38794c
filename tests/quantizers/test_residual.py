"""Quantizers with several codes per position: sums of levels, and what each level adds."""

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as library
from torch import Tensor

from stage1_tokenizer.quantizers import RQ, QINCo
from stage1_tokenizer.quantizers.chunks import SCORES

DIM, LEVELS, K = 6, 3, 12


def vectors(seed: int = 1, n: int = 150) -> Tensor:
    return torch.randn(2, n, DIM, generator=torch.Generator().manual_seed(seed)) + 1.5


def qinco(**options: object) -> QINCo:
    torch.manual_seed(0)
    quantizer = QINCo(codebook_size=K, code_dim=DIM, levels=LEVELS, hidden=8, **options)
    quantizer.init_from(vectors())
    return quantizer


def away_from_zero(quantizer: QINCo) -> QINCo:
    """Networks that change the codes, as trained ones do."""
    for parameter in quantizer.networks.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return quantizer


def residual_by_hand(latents: Tensor, tables: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Codes and sums after each level, by brute force in float64."""
    left, total, codes, sums = latents.double(), 0, [], []
    for table in tables.double():
        chosen = torch.cdist(left, table, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
        left, total = left - table[chosen], total + table[chosen]
        codes.append(chosen)
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
    gradient = 2 * 0.5 * 2 * (latents.detach() - sums[-1].detach().float()) / latents.numel()
    torch.testing.assert_close(latents.grad, gradient)


def test_qincos_chunks_find_what_all_candidates_at_once_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quantizer, latents = away_from_zero(qinco()), vectors(3, n=20).flatten(0, 1)
    total, expected = torch.zeros_like(latents), []
    for level, table in enumerate(quantizer.tables):
        candidates = table.expand(len(latents), -1, -1)
        if level:
            candidates = quantizer.networks[level - 1](candidates, total[:, None])
        distances = (latents[:, None] - total[:, None] - candidates).square().sum(-1)
        expected.append(distances.argmin(1))
        total = total + candidates[torch.arange(len(latents)), expected[-1]]
    for scores in (2**21, 8 * 7, 8 * 5 * K, 8):
        monkeypatch.setitem(SCORES, "cpu", scores)
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
    with pytest.raises(ValueError, match="levels=1 must be at least 2: set levels"):
        QINCo(levels=1)


def rq(**options: object) -> RQ:
    torch.manual_seed(0)
    quantizer = RQ(
        **{"codebook_size": K, "code_dim": DIM, "levels": LEVELS, "decay": 0.9} | options
    )
    quantizer.init_from(vectors())
    return quantizer


def step(quantizer: RQ, latents: Tensor) -> Tensor:
    """One step without an optimizer; returns the codes."""
    out = quantizer(latents)
    quantizer.accumulate(out.inputs, out.codes.flatten(0, 1))
    quantizer.after_step()
    return out.codes


both = pytest.mark.parametrize("shared", [True, False])


@both
def test_rq_codes_and_loss_are_those_by_hand(shared: bool) -> None:
    quantizer, latents = rq(shared=shared, weight=2.0, beta=0.5), vectors(2).requires_grad_()
    tables = torch.stack([quantizer.level(level).codebook for level in range(LEVELS)])
    codes, sums = residual_by_hand(latents.detach(), tables)
    out = quantizer(latents)
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.latents.detach().double(), sums[-1])
    losses = [F.mse_loss(latents.detach().double(), part) for part in sums]
    expected = 2.0 * 0.5 * torch.stack(losses).mean()
    torch.testing.assert_close(out.loss.detach().double(), expected)
    for levels in range(1, LEVELS + 1):
        prefix = quantizer.sums(codes[..., :levels])[-1]
        torch.testing.assert_close(prefix.double(), sums[levels - 1])


@both
def test_rq_is_the_library_of_others(shared: bool) -> None:
    quantizer, latents = rq(shared=shared), vectors(3)
    theirs = library.ResidualVQ(
        dim=DIM, codebook_size=K, num_quantizers=LEVELS, shared_codebook=shared
    ).eval()
    for level, layer in enumerate(theirs.layers):
        layer._codebook.embed.data.copy_(quantizer.level(level).codebook[None])
        layer._codebook.initted.data.fill_(True)
    quantized, codes, _ = theirs(latents)
    assert torch.equal(quantizer.encode(latents), codes)
    torch.testing.assert_close(quantizer.lookup(codes), quantized)


@both
def test_rq_averages_what_was_left_before_each_level(shared: bool) -> None:
    quantizer, latents = rq(shared=shared, reset="none"), vectors(4)
    tables = [quantizer.level(level).codebook.clone() for level in range(LEVELS)]
    codes = step(quantizer, latents).flatten(0, 1)
    left, size = latents.flatten(0, 1), 1 if shared else LEVELS
    counts, sums = torch.zeros(size, K), torch.zeros(size, K, DIM)
    for level, table in enumerate(tables):
        for vector, code in zip(left, codes[:, level], strict=True):
            counts[level % size, code] += 1
            sums[level % size, code] += vector
        left = left - table[codes[:, level]]
    for level in range(size):
        averages = quantizer.level(level)
        count, total = 0.9 + 0.1 * counts[level], 0.9 * tables[level] + 0.1 * sums[level]
        torch.testing.assert_close(averages.counts, count)
        torch.testing.assert_close(averages.sums, total, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(averages.table, total / count[:, None], atol=1e-4, rtol=1e-4)


@both
def test_rqs_levels_each_lessen_the_error_once_trained(shared: bool) -> None:
    quantizer, latents = rq(shared=shared), vectors(5, n=400)
    for _ in range(30):
        codes = step(quantizer, latents)
    errors = [float(F.mse_loss(part, latents)) for part in quantizer.sums(codes)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


def test_rqs_rare_codes_come_back_as_what_is_left_before_a_level() -> None:
    quantizer, latents = rq(shared=False), vectors(6)
    last = quantizer.level(LEVELS - 1)
    for own in (last.table, last.sums):
        own[0] = 100.0
    last.counts[0] = 0.0
    before = quantizer.sums(quantizer.encode(latents))[LEVELS - 2]
    left = (latents - before).flatten(0, 1)
    step(quantizer, latents)
    assert (last.table[0] - left).abs().sum(1).min() < 1e-5
    assert torch.isfinite(quantizer(latents).loss)


def test_codes_of_qinco_in_half_precision_decode_in_float32() -> None:
    quantizer = away_from_zero(qinco())
    codes = quantizer.encode(vectors())
    expected = quantizer.lookup(codes)
    actual = quantizer.bfloat16().lookup(codes)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=0.1, rtol=0.05)
