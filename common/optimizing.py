"""Clipping and stepping of several optimizers, also under the one gradient scaler of fp16."""

from collections.abc import Sequence

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
    """Clips the network's gradient to a norm of `most`; returns its norm before that.

    With a scaler the gradients of its own optimizers are unscaled first, and of these alone: once for each step.
    """
    if scaler is not None:
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
    return nn.utils.clip_grad_norm_(network.parameters(), most)


@part("optimizer")
def step_and_clear(optimizers: Sequence[Optimizer], scaler: GradScaler | None) -> None:
    """A step of each optimizer, whose gradients are then gone; the scaler's scale follows once, after all of them."""
    for optimizer in optimizers:
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    if scaler is not None:
        scaler.update()
