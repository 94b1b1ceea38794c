"""Several optimizers under one gradient scaler do what they do without it."""

import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.utils.parametrizations import weight_norm

from common.optimizing import clipped_norm, step_and_clear
from common.training import decay_groups

INPUTS = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


def trained(scaler: GradScaler | None) -> tuple[list[torch.Tensor], list[float]]:
    """Weights and norms of two networks, of which the first has two optimizers, after four clipped steps."""
    torch.manual_seed(0)
    first, second = nn.Linear(8, 8), nn.Linear(8, 4)
    optimizers = [
        torch.optim.Muon([first.weight], 1e-2),
        torch.optim.AdamW([first.bias], 1e-2, fused=True),
        torch.optim.AdamW(second.parameters(), 1e-2, fused=True),
    ]
    norms = []
    for _ in range(4):
        loss = 10 * second(first(INPUTS)).square().mean()
        (loss if scaler is None else scaler.scale(loss)).backward()
        norms += [
            float(clipped_norm(first, 0.5, optimizers[:2], scaler)),
            float(clipped_norm(second, 0.5, optimizers[2:], scaler)),
        ]
        step_and_clear(optimizers, scaler, torch.zeros(()))
        assert all(p.grad is None for p in (*first.parameters(), *second.parameters()))
    return [p.detach() for p in (*first.parameters(), *second.parameters())], norms


def test_a_scaler_changes_neither_norms_nor_steps() -> None:
    scaler = GradScaler("cpu", init_scale=2.0**16, growth_interval=100)
    (plain, norms), (scaled, others) = trained(None), trained(scaler)
    torch.testing.assert_close(torch.tensor(others), torch.tensor(norms))
    for a, b in zip(scaled, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert (
        scaler.state_dict()["_growth_tracker"] == 4
    )  # one update for each step, not for each optimizer


def test_a_step_that_overflows_is_left_out_and_halves_the_scale() -> None:
    network, scaler = nn.Linear(8, 1), GradScaler("cpu", init_scale=2.0**16)
    optimizer = torch.optim.AdamW(network.parameters(), 1.0)
    before = network.weight.detach().clone()
    scaler.scale((network(INPUTS) * torch.inf).sum()).backward()
    clipped_norm(network, 1.0, [optimizer], scaler)
    step_and_clear([optimizer], scaler, torch.zeros(()))
    assert torch.equal(network.weight, before) and scaler.get_scale() == 2.0**15


def test_gains_are_not_decayed_and_kernels_are_whatever_they_are_called() -> None:
    network = nn.ModuleDict(
        {"embed": nn.Conv1d(2, 3, 3), "scaled": weight_norm(nn.Conv1d(2, 3, 3))}
    )
    names = {parameter: name for name, parameter in network.named_parameters()}
    decayed, plain = ({names[p] for p in group["params"]} for group in decay_groups(network, 0.1))
    assert decayed == {"embed.weight", "scaled.parametrizations.weight.original1"}
    gain = "scaled.parametrizations.weight.original0"
    assert plain == {"embed.bias", "scaled.bias", gain}
