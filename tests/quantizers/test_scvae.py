"""SC-VAE: learned ISTA against scikit-learn, and codes that tell a part of the coefficients."""

import pytest
import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from stage1_tokenizer.quantizers import SCVAE

DIM, ATOMS = 6, 20


def vectors(seed: int = 1, n: int = 40) -> Tensor:
    return torch.randn(2, n, DIM, generator=torch.Generator().manual_seed(seed)) + 1.5


def scvae(**options: object) -> SCVAE:
    quantizer = SCVAE(code_dim=DIM, atoms=ATOMS, **options)
    quantizer.init_from(vectors())
    return quantizer


def test_many_steps_reach_the_lasso_solution() -> None:
    quantizer, latents = scvae(iterations=4000, sparsity=0.3), vectors(n=10).flatten(0, 1)
    dictionary = quantizer.dictionary.double()
    actual = quantizer.coefficients(latents).detach().double()
    lasso = Lasso(alpha=0.3 / DIM, fit_intercept=False, tol=1e-12, max_iter=10**6)
    solved = [lasso.fit(dictionary.T.numpy(), z.double().numpy()).coef_ for z in latents]
    expected = torch.stack([torch.from_numpy(i) for i in solved])

    def objective(coefficients: Tensor) -> Tensor:
        left = latents.double() - coefficients @ dictionary
        return left.square().sum(1) / 2 + 0.3 * coefficients.abs().sum(1)

    torch.testing.assert_close(actual @ dictionary, expected @ dictionary, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(objective(actual), objective(expected), atol=1e-4, rtol=1e-4)


def test_atoms_are_unit_vectors_and_a_larger_threshold_leaves_fewer() -> None:
    torch.testing.assert_close(scvae().dictionary.norm(dim=1), torch.ones(ATOMS))
    counts = [
        float((scvae(sparsity=s).coefficients(vectors()) != 0).float().mean()) for s in (0.01, 1, 9)
    ]
    assert counts[0] > counts[1] > counts[2]


def test_codes_are_the_largest_coefficients_rounded_largest_first() -> None:
    quantizer = scvae(kept=3, values=9, sparsity=0.05)
    latents = vectors(2).flatten(0, 1)
    coefficients = quantizer.coefficients(latents).detach()
    rebuilt = torch.zeros_like(latents)
    step = float(quantizer.largest) / 4
    for i, own in enumerate(coefficients):
        for atom in sorted(range(ATOMS), key=lambda k: -abs(float(own[k])))[:3]:
            value = max(-4, min(4, round(float(own[atom]) / step))) * step
            rebuilt[i] += value * quantizer.dictionary[atom]
    codes = quantizer.encode(latents)
    torch.testing.assert_close(quantizer.lookup(codes), rebuilt, atol=1e-5, rtol=1e-5)
    sizes = (codes[:, 1::2] - 4).abs()
    assert (sizes.diff(dim=1) <= 0).all()
    assert (codes[:, 0::2][sizes == 0] == 0).all()


def test_more_codes_tell_more() -> None:
    errors = []
    for kept, values in ((1, 5), (3, 5), (6, 33), (ATOMS, 4001)):
        quantizer, latents = scvae(kept=kept, values=values), vectors(3)
        quantizer.init_from(latents)
        out = quantizer(latents)
        errors.append(float((quantizer.lookup(out.codes) - out.latents).detach().square().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-4


def test_gradients_are_those_of_the_search_itself() -> None:
    quantizer = scvae(iterations=5).double()
    latents = vectors(n=3).double().requires_grad_()

    def sums(z: Tensor) -> Tensor:
        return quantizer.coefficients(z) @ quantizer.dictionary

    assert torch.autograd.gradcheck(sums, latents)
    quantizer = scvae(iterations=5)
    quantizer(vectors()).loss.backward()
    assert quantizer.log_curvature.grad.abs() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_module_in_another_precision_computes_in_float32(dtype: torch.dtype) -> None:
    quantizer = scvae().to(dtype)
    same = scvae()
    same.load_state_dict(quantizer.state_dict())
    latents = vectors(2)
    out, expected = quantizer(latents), same(latents)
    assert torch.equal(out.codes, expected.codes) and torch.equal(out.latents, expected.latents)
    assert torch.equal(quantizer.encode(latents), out.codes)
    assert torch.equal(quantizer.lookup(out.codes), same.lookup(out.codes))
    for one in (quantizer, same):
        one.accumulate(out.inputs, out.input_codes)
    same.after_step()
    if dtype == torch.bfloat16:
        with pytest.raises(ValueError, match="would lose the small steps of its averages"):
            quantizer.after_step()
    else:
        quantizer.after_step()
        torch.testing.assert_close(quantizer.largest, same.largest.double())


def test_autocast_does_not_change_the_initialisation() -> None:
    quantizer = SCVAE(code_dim=DIM, atoms=ATOMS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantizer.init_from(vectors())
    assert torch.equal(quantizer.largest, scvae().largest)


@pytest.mark.parametrize(
    ("options", "words"), [({"values": 8}, "values=8 must be odd"), ({"kept": 21}, "kept=21")]
)
def test_mistakes_are_told_in_words(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        scvae(**options)
    assert "model.quantizer." in str(caught.value) and "\n" not in str(caught.value)
