"""Gradient checkpointing: less memory for a second forward."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(network: nn.Module) -> None:
    """Turns on gradient checkpointing for every module in a ModuleList: levels, blocks, layers. Results stay the same."""
    for modules in network.modules():
        for module in modules if isinstance(modules, nn.ModuleList) else ():
            module.forward = partial(with_checkpoint, module.forward)


def with_checkpoint(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The forward; in training its activations are computed again in the backward pass."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
