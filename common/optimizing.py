"""Clipping and stepping of several optimizers, also under the one gradient scaler of fp16."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from common.stopwatch import part


@part("optimizer")
def clipped_norm(
    network: nn.Module,
    most: float,
    optimizers: Sequence[Optimizer],
    scaler: GradScaler | None,
) -> Tensor:
    """Unscales the gradient if there is a scaler, and clips it to norm `most`; returns its norm before clipping."""
    if scaler is not None:
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
    return nn.utils.clip_grad_norm_(network.parameters(), most)


def nan_if_not_finite(loss: Tensor) -> Tensor:
    """The loss; nan where it is infinite, so that its gradients are nan, too, and all processes skip the step."""
    return loss * torch.where(loss.isfinite(), 1.0, torch.nan)


@part("optimizer")
def step_and_clear(
    optimizers: Sequence[Optimizer], scaler: GradScaler | None, skip: Tensor
) -> None:
    """Steps each optimizer and clears its gradients; afterwards updates the scaler once.

    `skip` is also the optimizers' `found_inf`, which fused ones read on the device. On MPS they do not: without a
    scaler it is read here, which waits for the device.
    """
    for optimizer in optimizers:
        if scaler is not None:
            scaler.step(optimizer)
        elif skip.device.type != "mps" or not skip:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if scaler is not None:
        scaler.update()
