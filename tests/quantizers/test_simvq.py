"""SimVQ and its parts: gradients, losses, precision."""

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as library
from helpers.quantizer_cases import normal, seeded

from stage1_tokenizer.quantizers import LC, SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.losses import gaussian_wasserstein
from stage1_tokenizer.quantizers.simvq import off_diagonal_gram


def test_the_wasserstein_penalty_alone_brings_the_codes_to_the_latents() -> None:
    torch.manual_seed(0)
    quantizer = SimVQ(codebook_size=64, code_dim=3, weight=0.5, w2_penalty=2.0, rescale=False)
    latents = 4 + normal(1, 300, 3) @ torch.diag(torch.tensor([0.2, 1.0, 3.0]))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.03)
    first = gaussian_wasserstein(latents[0], quantizer.codebook).item()
    loss = quantizer(latents).losses["w2"]
    assert loss.item() == pytest.approx(first, rel=1e-5), "0.5 times 2"
    for _ in range(300):
        optimizer.zero_grad()
        quantizer(latents).losses["w2"].backward()
        optimizer.step()
    assert gaussian_wasserstein(latents[0], quantizer.codebook).item() < 0.05 * first


def test_only_w_and_b_learn_and_every_code_moves() -> None:
    quantizer = seeded(codebook_size=64, code_dim=4)
    assert [name for name, _ in quantizer.named_parameters()] == [
        "projection.weight",
        "projection.bias",
    ]
    before = quantizer.codebook.detach().clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.1)
    quantizer(torch.randn(1, 3, 4)).loss.backward()
    optimizer.step()
    assert (quantizer.codebook != before).any(dim=1).all()


def test_the_gradient_of_w_comes_from_the_chosen_codes() -> None:
    """Against the paper's expression, in which the whole codebook C W + b has a gradient."""
    quantizer = seeded(codebook_size=32, code_dim=4)
    z = torch.randn(2, 5, 4, requires_grad=True)
    quantizer(z).loss.backward()
    mine = [z.grad, quantizer.projection.weight.grad, quantizer.projection.bias.grad]
    weight = quantizer.projection.weight.detach().clone().requires_grad_()
    bias = quantizer.projection.bias.detach().clone().requires_grad_()
    z2 = z.detach().clone().requires_grad_()
    codebook = quantizer.basis @ weight.T + bias
    chosen = codebook[torch.cdist(z2, codebook[None]).argmin(-1)]
    (0.25 * F.mse_loss(z2, chosen.detach()) + F.mse_loss(chosen, z2.detach())).backward()
    for ours, theirs in zip(mine, [z2.grad, weight.grad, bias.grad], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_code_vector_is_exact_and_its_gradient_the_identity() -> None:
    quantizer = seeded(codebook_size=50, code_dim=6)
    z = torch.randn(3, 7, 6, requires_grad=True)
    for mode in (True, False):
        quantizer.train(mode)
        out = quantizer(z)
        assert torch.equal(out.latents, quantizer.lookup(out.codes))
        probe = torch.randn_like(z)
        (gradient,) = torch.autograd.grad((out.latents * probe).sum(), z)
        assert torch.equal(gradient, probe)


@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"train_basis": True}, {"rotation": True}]
)
def test_codes_round_trip(options: dict[str, bool]) -> None:
    quantizer = seeded(codebook_size=200, code_dim=8, **options).eval()
    codes = torch.arange(200)
    with torch.no_grad():
        assert torch.equal(quantizer.encode(quantizer.lookup(codes)), codes)
    assert quantizer.spec.sizes == (200,)
    assert quantizer.spec.bits == pytest.approx(7.6439, abs=1e-4)


def test_golden_values() -> None:
    """Fixed numbers: a change of the loss or of its weights must show up here."""
    quantizer = seeded(codebook_size=4, code_dim=2, beta=0.5, weight=3.0, bias=False)
    quantizer.basis.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    torch.nn.init.eye_(quantizer.projection.weight)
    out = quantizer(torch.tensor([[[0.9, 0.1], [0.2, 0.1]]]))
    assert out.codes.tolist() == [[1, 0]]
    # squared errors 0.01 + 0.01 + 0.04 + 0.01 = 0.07 over 4 numbers
    assert out.losses["codebook"].item() == pytest.approx(3 * 0.0175)
    assert out.losses["commitment"].item() == pytest.approx(3 * 0.5 * 0.0175)
    assert out.loss.item() == pytest.approx(4.5 * 0.0175)


@pytest.mark.parametrize("rotation", [False, True])
def test_it_is_the_simvq_of_the_library_of_others(rotation: bool) -> None:
    mine = seeded(codebook_size=300, code_dim=8, bias=False, rescale=False, rotation=rotation)
    theirs = library.SimVQ(dim=8, codebook_size=300, rotation_trick=rotation)
    theirs.frozen_codebook.copy_(mine.basis)
    theirs.code_transform.weight.data.copy_(mine.projection.weight)
    ours = torch.randn(2, 40, 8).requires_grad_()
    others = ours.detach().clone().requires_grad_()
    out = mine(ours)
    vectors, codes, loss = theirs(others)
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.latents, vectors)
    torch.testing.assert_close(out.loss, loss)
    direction = torch.randn(2, 40, 8)
    ((out.latents * direction).sum() + out.loss).backward()
    ((vectors * direction).sum() + loss).backward()
    torch.testing.assert_close(ours.grad, others.grad)
    mine_w, their_w = mine.projection.weight.grad, theirs.code_transform.weight.grad
    torch.testing.assert_close(mine_w, their_w)


def test_codes_are_the_same_under_bf16_autocast() -> None:
    quantizer = seeded(codebook_size=4096, code_dim=16)
    z = torch.randn(4, 256, 16)
    plain = quantizer(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = quantizer(z)
        codes = quantizer.encode(z)
    assert torch.equal(plain.codes, mixed.codes) and torch.equal(plain.codes, codes)
    assert mixed.latents.dtype == mixed.loss.dtype == torch.float32
    assert torch.equal(plain.loss, mixed.loss)


@pytest.mark.parametrize("kind", [SimVQ, LC])
def test_a_write_to_the_data_of_basis_or_map_is_seen(kind: type[SimVQ | LC]) -> None:
    quantizer = kind(codebook_size=20, code_dim=4).eval()
    latents, codes = torch.randn(30, 4), torch.arange(20)
    for tensor in (quantizer.basis, quantizer.projection.weight, quantizer.projection.bias):
        with torch.no_grad():
            quantizer.encode(latents)  # of what may be kept
            tensor.data.mul_(-2).add_(1)
            fresh = quantizer.basis @ quantizer.projection.weight.T + quantizer.projection.bias
            torch.testing.assert_close(quantizer.codebook, fresh)
            torch.testing.assert_close(quantizer.lookup(codes), fresh)
            assert torch.equal(quantizer.encode(latents), torch.cdist(latents, fresh).argmin(1))


def test_the_codebook_of_a_module_in_float64_is_in_float32() -> None:
    quantizer = seeded(codebook_size=20, code_dim=4)
    codebook = quantizer.codebook
    assert torch.equal(quantizer.double().codebook, codebook)


def test_it_starts_with_the_mean_and_scale_of_the_latents() -> None:
    quantizer = seeded(codebook_size=5000, code_dim=8)
    latents = 3 + 2.5 * torch.randn(4000, 8)
    quantizer.init_from(latents)
    torch.testing.assert_close(quantizer.codebook.mean(0), latents.mean(0), atol=1e-4, rtol=1e-4)
    spread = quantizer.codebook.std(0).square().mean().sqrt()
    torch.testing.assert_close(spread, latents.std(0).square().mean().sqrt(), rtol=1e-4, atol=0)
    untouched = seeded(codebook_size=10, code_dim=8, rescale=False)
    before = untouched.codebook.detach().clone()
    untouched.init_from(latents)
    assert torch.equal(untouched.codebook, before)


def test_gram_penalty_is_zero_for_separate_dimensions_and_not_for_parallel_ones() -> None:
    assert off_diagonal_gram(torch.eye(3).repeat(4, 1)).item() == 0
    # two columns, both 1 / sqrt(2) in each of 4 rows: the off-diagonal entry is 4 * 0.5
    assert off_diagonal_gram(torch.ones(4, 2)).item() == pytest.approx(4.0)
    quantizer = seeded(codebook_size=16, code_dim=3, gram_penalty=0.1)
    out = quantizer(torch.randn(1, 4, 3))
    expected = 0.1 * off_diagonal_gram(quantizer.codebook)
    torch.testing.assert_close(out.losses["gram"], expected)


def test_a_trained_basis_has_a_gradient_at_the_chosen_codes_alone() -> None:
    quantizer = seeded(codebook_size=32, code_dim=4, train_basis=True)
    out = quantizer(torch.randn(1, 3, 4))
    out.loss.backward()
    moved = quantizer.basis.grad.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == out.codes.unique().tolist()


def test_a_codebook_of_one_code_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"codebook_size=1 must be at least 2: set codebook_size"):
        SimVQ(codebook_size=1)
    with pytest.raises(ValueError, match="code_dim=-1 must be at least 1: set code_dim"):
        SimVQ(SimVQConfig(code_dim=-1))  # type: ignore[call-arg]


@pytest.mark.parametrize("vectors", [torch.full((1, 1, 4), 3.0), torch.full((2, 9, 4), 3.0)])
def test_vectors_without_spread_leave_the_scale_of_the_codebook(vectors: torch.Tensor) -> None:
    """A single vector, or a constant batch: its mean is taken over, its spread says nothing."""
    quantizer = SimVQ(codebook_size=64, code_dim=4)
    spread = quantizer.codebook.std(0)
    quantizer.init_from(vectors)
    torch.testing.assert_close(quantizer.codebook.std(0), spread)
    torch.testing.assert_close(quantizer.codebook.mean(0), torch.full((4,), 3.0))


def test_it_is_made_and_used_in_inference_mode() -> None:
    with torch.inference_mode():
        quantizer = SimVQ(codebook_size=16, code_dim=4).eval()
        codes = quantizer.encode(torch.randn(5, 4))
        assert quantizer.lookup(codes).shape == (5, 4)
