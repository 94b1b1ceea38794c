"""Gradient checkpointing: less memory for a second forward."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(network: nn.Module) -> None:
    """Lets the modules of each list in a network keep their inputs alone, and compute the rest again in the backward.

    The lists are the levels, blocks and layers of the networks of this project and of transformers. Results and
    gradients are the same, noise included.
    """
    for modules in network.modules():
        for module in modules if isinstance(modules, nn.ModuleList) else ():
            module.forward = partial(with_checkpoint, module.forward)


def with_checkpoint(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the forward gives, its inner values forgotten until the backward."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
