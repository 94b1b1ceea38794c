"""Muon, fast on any processor."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PRODUCTS = {"cuda": torch.bfloat16}
"""What matrices are multiplied in; float32 on all other devices."""


class Muon(torch.optim.Muon):
    """torch's Muon (Jordan et al. 2024), whose products are float32 on all devices but CUDA's.

    torch's are bfloat16 everywhere, for which many processors have no instructions: there a step takes 17 times
    as long. The steps of a matrix are scaled to the size of AdamW's (arXiv 2502.16982, equation 4). Like the fused
    AdamW it leaves out a step whose `found_inf` is 1, without waiting for the device. The state is that of torch's:
    each reads what the other saved.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all matrices, each of which has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                self.step_of(matrix, group)

    def step_of(self, matrix: Tensor, group: dict[str, Any]) -> None:
        """The step of one matrix."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        mean, gradient, skip = state["momentum_buffer"], matrix.grad, self.found_inf
        assert gradient is not None
        if skip is not None:
            gradient = torch.where(skip > 0, mean, gradient)  # towards itself it does not move
        mean.lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"])
        dtype = PRODUCTS.get(matrix.device.type, torch.float32)
        change = newton_schulz(ahead.to(dtype), group["ns_coefficients"], group["ns_steps"])
        moved = matrix * (1 - group["lr"] * group["weight_decay"])
        moved.add_(change, alpha=-0.2 * group["lr"] * math.sqrt(max(matrix.shape)))
        matrix.copy_(moved if skip is None else torch.where(skip > 0, matrix, moved))


def newton_schulz(matrix: Tensor, coefficients: Sequence[float], steps: int) -> Tensor:
    """About U V^T of a matrix U S V^T, by Newton-Schulz iteration: all singular values come near 1.

    A step takes X to a X + b (X X^T) X + c (X X^T)^2 X, coefficients (a, b, c).
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix  # X X^T is the smaller of the two products
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
