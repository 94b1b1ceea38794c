"""SQ-VAE and HQA's layer: limits of the mixture, the bound by brute force, annealing, resets."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stage1_tokenizer.images.losses import ImageLossConfig, reconstruction_losses
from stage1_tokenizer.quantizers import HQA, SQVAE
from stage1_tokenizer.quantizers.chunks import SCORES
from stage1_tokenizer.quantizers.soft_assignment import soft_assignment

KINDS: list[tuple[type[SQVAE] | type[HQA], dict[str, object]]] = [
    (SQVAE, {"kind": "gaussian", "start": 0.5}),
    (SQVAE, {"kind": "vmf"}),
    (HQA, {}),
]
each = pytest.mark.parametrize(("kind", "options"), KINDS)


def seeded(kind: type[SQVAE] | type[HQA], options: dict[str, object]) -> SQVAE | HQA:
    torch.manual_seed(0)
    return kind(codebook_size=12, code_dim=4, values=3, **options)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.5


def test_a_cold_mixture_is_a_single_code_sampled_by_its_probability() -> None:
    torch.manual_seed(0)
    codebook, latents = normal(5, 3), normal(1, 3, seed=2).expand(40_000, 3)
    precision = torch.tensor(0.4)
    mixed, _, _ = soft_assignment(latents, codebook, precision, torch.tensor(1e-3))
    nearest = torch.cdist(mixed, codebook).min(1)
    assert (nearest.values < 1e-3).float().mean() > 0.99
    frequencies = torch.bincount(nearest.indices, minlength=5) / len(latents)
    wanted = (-0.4 * torch.cdist(latents[:1], codebook).square()).softmax(1)[0]
    torch.testing.assert_close(frequencies, wanted, atol=0.01, rtol=0)


def test_without_precision_codes_are_equally_likely() -> None:
    latents, codebook = normal(50, 3), normal(7, 3, seed=2)
    _, divergence, distance = soft_assignment(
        latents, codebook, torch.tensor(1e-9), torch.tensor(1.0)
    )
    assert divergence.item() == pytest.approx(0, abs=1e-3)
    expected = torch.cdist(latents, codebook).square().mean(1).sum()
    torch.testing.assert_close(distance, expected)
    _, divergence, distance = soft_assignment(
        latents, codebook, torch.tensor(1e6), torch.tensor(1.0)
    )
    assert divergence.item() == pytest.approx(50 * math.log(7))
    nearest = torch.cdist(latents, codebook).square().amin(1).sum()
    torch.testing.assert_close(distance, nearest, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gaussian", "vmf"])
def test_sqvaes_terms_are_brute_force_ones(kind: str) -> None:
    quantizer = seeded(SQVAE, {"kind": kind, "start": 3.0, "weight": 0.7})
    latents = normal(2, 9, 4)
    out = quantizer(latents)
    z = latents.flatten(0, 1).double()
    c = quantizer.table.double()
    mixed = out.latents.flatten(0, 1).double()
    if kind == "vmf":
        z, c = F.normalize(z, dim=1), F.normalize(c, dim=1)
        logits, noise = 4.0 * z @ c.T, 4.0 * (1 - (z * mixed).sum(1))
    else:
        logits = -torch.cdist(z, c).square() / (2 * 4.0)
        noise = (z - mixed).square().sum(1) / (2 * 4.0)
    p = logits.softmax(1)
    factor = 0.7 / 3
    divergence = (p * p.log()).sum(1).mean() + math.log(12)
    assert out.losses["codes"].item() == pytest.approx(factor * divergence.item(), rel=1e-5)
    assert out.losses["noise"].item() == pytest.approx(factor * noise.mean().item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "vmf"])
def test_the_variances_gradient_is_the_difference_quotient(kind: str) -> None:
    quantizer = seeded(SQVAE, {"kind": kind, "start": 3.0})
    latents, probe, step = normal(2, 9, 4), normal(2, 9, 4, seed=7), 2e-2

    def loss() -> Tensor:
        torch.manual_seed(5)
        out = quantizer(latents)
        return out.loss + (out.latents * probe).mean()

    loss().backward()
    actual = quantizer.log_width.grad
    with torch.no_grad():
        quantizer.log_width += step
        above = loss()
        quantizer.log_width -= 2 * step
        below = loss()
    torch.testing.assert_close(actual, (above - below) / (2 * step), atol=1e-4, rtol=2e-3)


def test_hqas_terms_are_brute_force_ones() -> None:
    quantizer = seeded(HQA, {"uniform_weight": 0.2, "beta": 0.3, "weight": 0.5})
    latents = normal(2, 9, 4)
    losses = quantizer(latents).losses
    squares = torch.cdist(latents.flatten(0, 1), quantizer.table).square()
    p = (-squares).softmax(1)
    divergence = (p * p.log()).sum(1).mean() + math.log(12)
    assert losses["uniform"].item() == pytest.approx(0.5 * 0.2 / 3 * divergence.item(), rel=1e-4)
    distance = (p * squares).sum(1).mean().item()
    assert losses["commitment"].item() == pytest.approx(0.5 * 0.3 / 3 * distance, rel=1e-4)


@each
def test_chunks_change_neither_losses_nor_gradients(
    kind: type[SQVAE] | type[HQA], options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for scores in (2**21, 12 * 7):
        quantizer = seeded(kind, options)
        # so cold that a chunk's other noise may change the codes sampled, so in eval
        quantizer.counter.steps += 10**7
        latents = normal(2, 20, 4).requires_grad_()
        with monkeypatch.context() as patch:
            patch.setitem(SCORES, "cpu", scores)
            out = quantizer.eval()(latents)
        out.loss.backward()
        results.append((out.loss, latents.grad, quantizer.table.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_a_chunks_noise_is_the_same_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of one chunk at a time is that of the mixtures which the forward pass returned."""
    quantizer = seeded(SQVAE, {"start": 0.5})
    latents, probe = normal(1, 20, 4).requires_grad_(), normal(1, 20, 4, seed=3)
    monkeypatch.setitem(SCORES, "cpu", 12 * 7)
    torch.manual_seed(9)
    (quantizer(latents).latents * probe).sum().backward()
    torch.manual_seed(9)
    parts = [
        soft_assignment(some, quantizer.codebook, quantizer.precision, quantizer.temperature)[0]
        for some in latents[0].split(7)
    ]
    (wanted,) = torch.autograd.grad((torch.cat(parts) * probe[0]).sum(), latents)
    torch.testing.assert_close(latents.grad, wanted)


def test_temperatures_fall_by_the_step() -> None:
    quantizers = seeded(SQVAE, {"annealing": 0.1}), seeded(HQA, {"annealing_steps": 4})
    seen = []
    for _ in range(6):
        seen.append([float(q.temperature) for q in quantizers])
        for quantizer in quantizers:
            quantizer.after_step()
    exponential, linear = zip(*seen, strict=True)
    assert exponential == pytest.approx([math.exp(-0.1 * step) for step in range(6)])
    assert linear == pytest.approx([0.667, 0.5005, 0.334, 0.1675, 0.001, 0.001], rel=1e-4)


def test_hqas_least_used_code_moves_beside_the_most_used_one_every_20_steps() -> None:
    quantizer = seeded(HQA, {})
    start = quantizer.table.detach().clone()
    for step in range(1, 61):
        codes = torch.arange(12).repeat_interleave(10)
        if step <= 20:
            codes[codes == 3] = 7
        quantizer.accumulate(start[codes], codes)
        quantizer.after_step()
        moved = (quantizer.table != start).any(1).nonzero().flatten().tolist()
        assert moved == ([] if step < 20 else [3])
    assert (quantizer.table[3] - start[7]).abs().max() < 0.05
    assert not quantizer.usage.any()


def test_arelbo_is_half_the_log_of_the_squared_error() -> None:
    made_, images = torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.5)
    config = ImageLossConfig(arelbo=True, l1_weight=2.0)
    assert reconstruction_losses(made_, images, config) == {"arelbo": pytest.approx(math.log(0.25))}
    assert reconstruction_losses(made_, images, ImageLossConfig()) == {"l1": pytest.approx(0.5)}


def test_impossible_options_are_refused_in_words() -> None:
    for change in ({"start": 0.0}, {"values": 0}):
        with pytest.raises(ValueError, match=r"must be .*: set (start|values)"):
            SQVAE(**change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"annealing_steps=0 must be .*: set annealing_steps"):
        HQA(annealing_steps=0)
