"""A toy with known answers: vectors of a Gaussian whose mean wanders by ten standard deviations."""

from typing import Any

import pytest
import torch

from stage1_tokenizer.quantizers import CVQ, EMA, VQ, Affine, Quantizer, SimVQ

STEPS, BATCH, SIZE = 3000, 256, 256


def used_after_drift(kind: type[Quantizer], options: dict[str, Any], seed: int = 0) -> float:
    """The share of codes that 20,000 vectors of the last distribution choose; no encoder, Adam at 0.01."""
    torch.manual_seed(seed)
    quantizer = kind(codebook_size=SIZE, code_dim=2, **options)
    learned = [p for p in quantizer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-2) if learned else None
    direction = torch.tensor([0.6, 0.8])
    for step in range(STEPS):
        latents = torch.randn(1, BATCH, 2) + 10 * step / STEPS * direction
        if step == 0:
            quantizer.init_from(latents)
        out = quantizer(latents)
        if optimizer is not None:
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
        quantizer.accumulate(out.inputs, out.codes.flatten())
        quantizer.after_step()
    codes = quantizer.encode(torch.randn(20_000, 2) + 10 * direction)
    return codes.unique().numel() / SIZE


MOST: dict[str, tuple[type[Quantizer], dict[str, Any]]] = {
    "simvq": (SimVQ, {}),
    "affine": (Affine, {"replace_after": 0, "start": "normal"}),
    "ema-redraw": (EMA, {"reset": "redraw"}),
    "ema-state": (EMA, {"reset": "state"}),
}
FEW: dict[str, tuple[type[Quantizer], dict[str, Any]]] = {
    "vq": (VQ, {}),
    "ema": (EMA, {}),
    "simvq-no-bias": (SimVQ, {"bias": False}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MOST)
def test_codes_that_move_together_or_are_reset_follow_the_mean(name: str) -> None:
    assert used_after_drift(*MOST[name]) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_codes_that_move_alone_or_not_at_all_are_left_behind(name: str) -> None:
    assert used_after_drift(*FEW[name]) < 0.4


@pytest.mark.slow
def test_anchors_lag_behind_but_not_as_far() -> None:
    assert 0.5 < used_after_drift(CVQ, {"anchor": "closest"}) < 0.9
