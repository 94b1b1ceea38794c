"""Muon for the matrices of the transformers, AdamW for all else."""

import copy

import pytest
import torch
from helpers.priors import image_prior

from common.training import OptimConfig, decay_groups
from stage2_prior.muon import PRODUCTS, Muon
from stage2_prior.optimizers import matrices_of, new_optimizers

OPTIM = OptimConfig(lr=1e-3, weight_decay=0.1)


def test_every_weight_has_one_optimizer_and_embeddings_have_adamw() -> None:
    prior = image_prior()
    adamw, muon = new_optimizers(prior, "muon", OPTIM)
    parts = [{id(p) for g in o.param_groups for p in g["params"]} for o in (adamw, muon)]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == {id(p) for p in prior.parameters()}
    names = matrices_of(prior)
    assert all("_proj" in name for name in names) and len(names) == 7 * len(prior.body.layers)
    assert len(new_optimizers(prior, "adamw", OPTIM)) == 1


def test_the_steps_of_muon_are_orthogonal_and_of_the_size_of_adamw_s() -> None:
    prior = image_prior()
    muon = new_optimizers(prior, "muon", OptimConfig(lr=1e-3, weight_decay=0.0))[1]
    weight = prior.body.layers[0].self_attn.q_proj.weight
    before = weight.detach().clone()
    for parameter in muon.param_groups[0]["params"]:
        parameter.grad = torch.randn_like(parameter)
    muon.step()
    change = weight.detach() - before
    singular = torch.linalg.svdvals(change)
    assert singular.max() < 2 * singular.median()
    assert 0.1e-3 < change.square().mean().sqrt() < 0.4e-3  # 0.2 of the learning rate


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_muon_takes_the_steps_of_torch_s(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit with bfloat16 products, to their rounding with float32; and each reads the other's state."""
    steps = {}
    for products in (torch.bfloat16, torch.float32):
        monkeypatch.setitem(PRODUCTS, "cpu", products)
        theirs, ours = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
        stock = torch.optim.Muon([theirs], 1e-2, 0.1, adjust_lr_fn="match_rms_adamw")
        muon = Muon([ours], 1e-2, 0.1)
        muon.found_inf = torch.zeros(())
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            theirs.grad = torch.randn(shape, generator=generator)
            ours.grad = theirs.grad.clone()
            stock.step()
            muon.step()
            muon.load_state_dict(copy.deepcopy(stock.state_dict()))
        steps[products] = ours.detach(), theirs.detach()
    assert torch.equal(*steps[torch.bfloat16])
    torch.testing.assert_close(*steps[torch.float32], rtol=0, atol=3e-4)  # of steps of 5e-3


def test_a_step_that_is_not_finite_is_left_out_by_muon() -> None:
    matrix = torch.nn.Parameter(torch.ones(8, 4))
    muon, steps = Muon([matrix], 1e-2, 0.1), []
    for skip in (0.0, 1.0, 0.0):
        matrix.grad = torch.full_like(matrix, torch.nan if skip else 1.0)
        muon.found_inf = torch.tensor(skip)
        muon.step()
        momentum = muon.state[matrix]["momentum_buffer"]
        steps.append((matrix.detach().clone(), momentum.clone()))
    taken, left_out, after = steps
    assert all(map(torch.equal, taken, left_out))
    assert not torch.equal(after[0], taken[0]) and after[0].isfinite().all()


def test_places_are_embeddings_too() -> None:
    """What is looked up is neither decayed nor orthogonalised, whatever it is called."""
    for prior in (image_prior(order="random"), image_prior(style="gpt2")):
        looked_up = {m.weight for m in prior.modules() if isinstance(m, torch.nn.Embedding)}
        decayed, plain = (set(group["params"]) for group in decay_groups(prior, 0.1))
        assert looked_up <= plain and not looked_up & decayed
        assert not looked_up & set(matrices_of(prior).values())
