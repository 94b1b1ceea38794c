"""FC, LC and SimVQ's ladder: what the codes are made of, the losses in formulas, the Wasserstein penalty."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from stage1_tokenizer.quantizers import EMA, FC, LC, VQ, Affine, LCConfig, Quantizer, SimVQ
from stage1_tokenizer.quantizers.estimators import synchronised
from stage1_tokenizer.quantizers.losses import gaussian_wasserstein

MAPS = ("full", "diagonal", "scalar", "mlp", "none")


def vectors(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_synchronised_gradient_is_the_decoders_and_nu_times_its_sum() -> None:
    z, table = vectors(7, 3).requires_grad_(), vectors(4, 3, seed=2).requires_grad_()
    codes = torch.tensor([0, 1, 1, 2, 0, 1, 2])
    upstream = vectors(7, 3, seed=3)
    out = synchronised(z, table[codes], 0.7)
    assert torch.equal(out, table[codes])
    (out * upstream).sum().backward()
    assert torch.equal(z.grad, upstream)
    expected = 0.7 * torch.zeros(4, 3).index_add_(0, codes, upstream)
    torch.testing.assert_close(table.grad, expected)


def test_affine_sends_nu_of_the_gradient_to_its_codes() -> None:
    torch.manual_seed(0)
    affine = Affine(codebook_size=5, code_dim=3, nu=0.5, start="normal")
    latents, upstream = vectors(1, 20, 3).requires_grad_(), vectors(1, 20, 3, seed=2)
    out = affine(latents)
    (out.latents * upstream).sum().backward()
    assert torch.equal(latents.grad, upstream)
    sums = torch.zeros(5, 3).index_add_(0, out.codes[0], upstream[0])
    torch.testing.assert_close(affine.table.grad, 0.5 * sums)
    torch.testing.assert_close(affine.shift.grad, 2 * 0.5 * sums.sum(0))


LOSSES: dict[str, Quantizer] = {
    "ema": EMA(codebook_size=6, code_dim=3, weight=2.0, beta=0.3, start="normal"),
    "affine": Affine(codebook_size=6, code_dim=3, weight=2.0, beta=0.3, start="normal"),
    "lc": LC(codebook_size=6, code_dim=3, weight=2.0, beta=0.3),
    "simvq": SimVQ(codebook_size=6, code_dim=3, weight=2.0, beta=0.3, map="diagonal"),
    "fc": FC(codebook_size=6, code_dim=3, weight=2.0, beta=0.3),
    "vq": VQ(codebook_size=6, code_dim=3, weight=2.0, beta=0.3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_formulas_and_go_where_they_should(name: str) -> None:
    quantizer, latents = LOSSES[name], vectors(1, 11, 3).requires_grad_()
    out = quantizer(latents)
    z = latents.detach().double()[0]
    z = z / z.norm(dim=1, keepdim=True) if name == "fc" else z
    squares = (z - quantizer.codebook.detach().double()[out.codes[0]]) ** 2
    mean = squares.sum().item() / 33
    assert out.losses["commitment"].item() == pytest.approx(2 * 0.3 * mean, rel=1e-5)
    learned = list(quantizer.parameters())
    pulls = torch.autograd.grad(
        out.losses["commitment"], [latents, *learned], allow_unused=True, retain_graph=True
    )
    assert pulls[0].abs().sum() > 0 and all(pull is None for pull in pulls[1:])
    if name == "ema":
        assert out.losses.keys() == {"commitment"}
        return
    assert out.losses["codebook"].item() == pytest.approx(2 * mean, rel=1e-5)
    pulls = torch.autograd.grad(out.losses["codebook"], [latents, *learned], allow_unused=True)
    assert pulls[0] is None and any(pull is not None for pull in pulls[1:])


def test_fc_chooses_by_the_cosine_and_gives_unit_vectors() -> None:
    torch.manual_seed(0)
    fc = FC(codebook_size=50, code_dim=4)
    fc.table.data *= torch.linspace(0.1, 30, 50)[:, None]
    latents = 7 * vectors(1, 200, 4)
    out = fc(latents)
    cosine = F.cosine_similarity(latents[0][:, None], fc.table[None], dim=2)
    assert torch.equal(out.codes[0], cosine.argmax(1))
    torch.testing.assert_close(out.latents.norm(dim=-1), torch.ones(1, 200))
    torch.testing.assert_close(fc(latents * 9).losses["codebook"], out.losses["codebook"])
    assert torch.equal(fc.encode(latents * 1e-6), out.codes)
    out.loss.backward()
    across = (fc.table.grad * fc.table).sum(1).detach()
    torch.testing.assert_close(across, torch.zeros(50), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_map_starts_with_the_spread_of_the_latents(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    quantizer = SimVQ(codebook_size=3000, code_dim=8, map=kind, bias=bias)
    latents = 3 + 2.5 * vectors(4000, 8)
    quantizer.init_from(latents)
    spread = quantizer.codebook.std(0).square().mean().sqrt()
    torch.testing.assert_close(spread, latents.std(0).square().mean().sqrt(), rtol=1e-4, atol=0)
    if bias or kind == "none":
        torch.testing.assert_close(
            quantizer.codebook.mean(0), latents.mean(0), atol=1e-4, rtol=1e-4
        )


def test_the_ladder_of_maps_has_the_parameters_it_says() -> None:
    count = {
        kind: sum(p.numel() for p in SimVQ(codebook_size=20, code_dim=6, map=kind).parameters())
        for kind in MAPS
    }
    assert count == {"full": 42, "diagonal": 12, "scalar": 7, "mlp": 84, "none": 0}


def test_maps_of_less_freedom_are_full_maps() -> None:
    full = SimVQ(codebook_size=20, code_dim=6)
    for kind in ("diagonal", "scalar"):
        less = SimVQ(codebook_size=20, code_dim=6, map=kind)
        less.projection.weight.data.uniform_(0.5, 2)
        less.projection.bias.data.normal_()
        full.basis.copy_(less.basis)
        full.projection.weight.data.copy_(torch.diag(less.projection.weight.expand(6)))
        full.projection.bias.data.copy_(less.projection.bias)
        torch.testing.assert_close(less.codebook, full.codebook)


@pytest.mark.parametrize("kind", MAPS)
def test_the_cached_codebook_of_every_map_is_fresh(kind: str) -> None:
    quantizer = SimVQ(codebook_size=20, code_dim=4, map=kind).eval()
    assert quantizer.codebook is quantizer.codebook
    quantizer.load_state_dict(SimVQ(codebook_size=20, code_dim=4, map=kind).state_dict())
    kept = quantizer.codebook
    torch.testing.assert_close(kept, quantizer.train().codebook.detach())


def test_saved_weights_of_the_linear_layer_keep_their_names() -> None:
    names = set(SimVQ(codebook_size=20, code_dim=4).state_dict())
    assert names == {"basis", "projection.weight", "projection.bias"}


def test_wasserstein_distance_of_known_gaussians() -> None:
    scipy_linalg = pytest.importorskip("scipy.linalg")
    first, second = vectors(500, 5) @ vectors(5, 5, seed=2) + 1, 2 * vectors(400, 5, seed=3)
    a, b = (np.cov(x.numpy().T.astype(np.float64), bias=True) for x in (first, second))
    root = scipy_linalg.sqrtm(a)
    middle = scipy_linalg.sqrtm(root @ b @ root).real
    expected = np.sum((first.mean(0) - second.mean(0)).numpy() ** 2) + np.trace(a + b - 2 * middle)
    assert gaussian_wasserstein(first, second).item() == pytest.approx(expected**0.5, rel=1e-3)
    assert gaussian_wasserstein(first, first + 3).item() == pytest.approx(3 * 5**0.5, rel=1e-4)
    assert gaussian_wasserstein(first, first.flip(0)).item() < 0.01


def test_wasserstein_gradient_is_that_of_finite_differences_and_finite_where_degenerate() -> None:
    first, second = vectors(30, 3).requires_grad_(), vectors(20, 3, seed=2).requires_grad_()
    gaussian_wasserstein(first, second).backward()
    for rows in (first, second):
        moved = [rows.detach().clone() for _ in range(2)]
        moved[0][4, 1] += 1e-2
        moved[1][4, 1] -= 1e-2
        values = [
            gaussian_wasserstein(x, second) if rows is first else gaussian_wasserstein(first, x)
            for x in moved
        ]
        slope = (values[0] - values[1]).item() / 2e-2
        assert rows.grad[4, 1].item() == pytest.approx(slope, rel=0.05, abs=1e-3)
    for flat in (torch.zeros(10, 3), torch.eye(3), torch.ones(1, 3)):
        flat = flat.clone().requires_grad_()
        gaussian_wasserstein(flat, torch.eye(3)).backward()
        assert flat.grad.isfinite().all()


def test_the_wasserstein_penalty_alone_brings_the_codes_to_the_latents() -> None:
    torch.manual_seed(0)
    quantizer = SimVQ(codebook_size=64, code_dim=3, weight=0.5, w2_penalty=2.0, rescale=False)
    latents = 4 + vectors(1, 300, 3) @ torch.diag(torch.tensor([0.2, 1.0, 3.0]))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.03)
    first = gaussian_wasserstein(latents[0], quantizer.codebook).item()
    loss = quantizer(latents).losses["w2"]
    assert loss.item() == pytest.approx(first, rel=1e-5), "0.5 times 2"
    for _ in range(300):
        optimizer.zero_grad()
        quantizer(latents).losses["w2"].backward()
        optimizer.step()
    assert gaussian_wasserstein(latents[0], quantizer.codebook).item() < 0.05 * first


def test_lc_without_a_file_starts_with_centres_of_the_latents() -> None:
    lc = LC(codebook_size=3, code_dim=4)
    centres = 30 * torch.eye(4)[:3]
    latents = centres.repeat(50, 1) + 0.1 * vectors(150, 4)
    lc.init_from(latents)
    codes = lc.encode(latents)
    for code in codes.unique():
        torch.testing.assert_close(lc.codebook[code], latents[codes == code].mean(0))
    torch.testing.assert_close(lc.codebook, lc.basis)


def test_lc_reads_features_and_learns_the_projector_alone(tmp_path: Path) -> None:
    features = 5 + vectors(40, 10)
    save_file({"features": features}, tmp_path / "f.safetensors")
    lc = LC(codebook_size=40, code_dim=4, features=str(tmp_path / "f.safetensors"), feature_dim=10)
    latents = 2 - 3 * vectors(500, 4)
    lc.init_from(latents)
    assert torch.equal(lc.basis, features)
    torch.testing.assert_close(lc.codebook.mean(0), latents.mean(0), atol=1e-4, rtol=1e-4)
    assert {name for name, _ in lc.named_parameters()} == {"projection.weight", "projection.bias"}
    (tmp_path / "f.safetensors").unlink()  # the weights hold them
    twin = LC(codebook_size=40, code_dim=4, features="gone", feature_dim=10)
    twin.load_state_dict(lc.state_dict())
    assert torch.equal(twin.codebook, lc.codebook)


def test_mistakes_of_lc_are_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.quantizer\.feature_dim"):
        LCConfig(features="f.safetensors")
    with pytest.raises(ValueError, match=r"is not a file"):
        LC(features="f.safetensors", feature_dim=3).init_from(torch.zeros(9, 8))
    path = tmp_path / "f.safetensors"
    save_file({"features": torch.zeros(5, 3)}, path)
    with pytest.raises(ValueError, match=r"\(5, 3\), not \(1024, 3\)"):
        LC(features=str(path), feature_dim=3).init_from(torch.zeros(9, 8))
    save_file({"other": torch.zeros(5, 3)}, path)
    with pytest.raises(ValueError, match=r'no tensor "features"'):
        LC(features=str(path), feature_dim=3).init_from(torch.zeros(9, 8))
