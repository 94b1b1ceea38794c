"""The cross-entropy of codes whose logits a linear map makes, without more than a chunk of the logits in memory."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from common.stopwatch import part

LOGITS_AT_ONCE = 2**24
"""Logits of one chunk on a CPU: 64 MB in float32."""
GPU_LOGITS_AT_ONCE = 2**26
"""The same on a GPU, where few calls are faster: 256 MB."""
LEAST_STATES = 256
"""Fewest states of a chunk, however many codes there are: each chunk updates the whole gradient of the weights."""


@part("losses")
def linear_cross_entropy(
    states: Float[Tensor, "n w"],
    weight: Float[Tensor, "k w"],
    bias: Float[Tensor, " k"] | None,
    codes: Int[Tensor, " n"],
    ignored: int,
) -> Float[Tensor, ""]:
    """The sum of -log softmax(states weight^T + bias) at the codes that are not `ignored`.

    Products are in the precision of autocast, all else in float32 or better. The forward pass
    computes the gradients, too, so that no logits are computed twice; there is no second derivative.
    """
    if torch.is_grad_enabled():
        return LinearCrossEntropy.apply(states, weight, bias, codes, ignored)
    return linear_cross_entropies(states, weight, bias, codes, ignored).sum()


@torch.no_grad()
def linear_cross_entropies(
    states: Float[Tensor, "n w"],
    weight: Float[Tensor, "k w"],
    bias: Float[Tensor, " k"] | None,
    codes: Int[Tensor, " n"],
    ignored: int,
) -> Float[Tensor, " n"]:
    """The terms of `linear_cross_entropy`, one for each code, without gradient; 0 where it is `ignored`."""
    return losses_by_chunks(states, weight, bias, codes, ignored, [None] * 3)


class LinearCrossEntropy(torch.autograd.Function):
    """The sum; its forward pass also computes the gradients of the inputs that need one."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, codes: Tensor, ignored: int
    ) -> Tensor:
        grads = [
            torch.zeros_like(x, dtype=at_least_float32(x.dtype))
            if needed and x is not None
            else None
            for x, needed in zip((states, weight, bias), ctx.needs_input_grad[:3], strict=True)
        ]
        losses = losses_by_chunks(states, weight, bias, codes, ignored, grads)
        ctx.save_for_backward(*grads)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        grads = [None if grad is None else grad * scale for grad in ctx.saved_tensors]
        return *grads, None, None


def losses_by_chunks(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codes: Tensor,
    ignored: int,
    grads: list[Tensor | None],
) -> Tensor:
    """Each code's term; adds to `grads` the gradients of their sum with respect to states, weight and bias, each unless None."""
    device = states.device.type
    autocast = torch.is_autocast_enabled(device)
    low = torch.get_autocast_dtype(device) if autocast else states.dtype
    weight = weight.to(low)
    bias = None if bias is None else bias.to(low)
    size = min(max(logits_at_once(device) // len(weight), LEAST_STATES), len(states))
    # Two buffers, one where both precisions are the same: large new ones cost more than what is done in them.
    products = states.new_empty(size, len(weight), dtype=low)
    exact = products.to(at_least_float32(low))
    losses = exact.new_empty(len(states))
    for first in range(0, len(states), size):
        here = slice(first, first + size)
        chunk, targets = states[here].to(low), codes[here]
        product, logs = products[: len(chunk)], exact[: len(chunk)]
        if bias is None:
            torch.mm(chunk, weight.T, out=product)
        else:
            torch.addmm(bias, chunk, weight.T, out=product)
        if low != logs.dtype:
            logs.copy_(product)
        torch.log_softmax(logs, 1, out=logs)
        counted = targets != ignored
        places = targets.where(counted, 0)[:, None]
        at_codes = logs.gather(1, places)
        losses[here] = -at_codes.squeeze(1).masked_fill(~counted, 0)
        if any(grad is not None for grad in grads):
            slope = logs.exp_().scatter_(1, places, at_codes.expm1())
            if low != slope.dtype:
                product.copy_(slope)
            here_grads = [None if grads[0] is None else grads[0][here], *grads[1:]]
            add_gradients(here_grads, chunk, weight, slope, product, counted)
    return losses


def logits_at_once(device: str) -> int:
    """Logits of one chunk on this device."""
    return LOGITS_AT_ONCE if device == "cpu" else GPU_LOGITS_AT_ONCE


def add_gradients(
    grads: list[Tensor | None],
    states: Tensor,
    weight: Tensor,
    slope: Tensor,
    product: Tensor,
    counted: Tensor,
) -> None:
    """Sets a chunk's gradients of states, and adds its gradients of weight and bias.

    `slope` is the gradient of the logits, `product` the same in the precision of products. Ignored codes are masked in
    the states, not in the logits, which are usually larger.
    """
    of_states, of_weight, of_bias = grads
    if of_states is not None:
        of_states.copy_(product @ weight).mul_(counted[:, None])
    if of_weight is not None:
        kept = states * counted[:, None]
        if of_weight.dtype == product.dtype:
            of_weight.addmm_(product.T, kept)
        elif product.dtype == torch.float16:
            # a sum over targets could overflow there, whatever the loss's scale
            of_weight.addmm_(slope.T, kept.to(slope.dtype))
        else:
            of_weight.add_(product.T @ kept)
    if of_bias is not None:
        of_bias.addmv_(slope.T, counted.to(slope.dtype))


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The precision of losses and gradients."""
    return torch.promote_types(dtype, torch.float32)
