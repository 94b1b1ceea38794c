"""A quantizer that takes part in somebody else's training loop, by hooks of its module and of the optimizer."""

from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.optim import Optimizer

from common.processes import broadcast_from_first


class Attachment:
    """The hooks that call `init_from`, `accumulate` and `after_step` of a `Quantizer` when it is their time."""

    def __init__(self, quantizer: Any, optimizer: Optimizer, begun: bool) -> None:
        self.begun = begun
        batches: list[tuple[torch.Tensor, torch.Tensor]] = []

        def learns(module: Any) -> bool:
            if module is not quantizer and module.training:
                raise ValueError(
                    "DataParallel's copies of an attached quantizer can't learn: use DistributedDataParallel"
                )
            return quantizer.training and torch.is_grad_enabled()

        def before_forward(module: Any, inputs: tuple[Any, ...]) -> None:
            if learns(module) and not self.begun:
                self.begun = True
                begin(quantizer, inputs[0].detach())

        def after_forward(module: Any, _: Any, out: Any) -> None:
            if learns(module):
                batches.append((out.inputs, out.input_codes))

        def after_step(*_: Any) -> None:
            if batches:
                for inputs, codes in batches:
                    quantizer.accumulate(inputs, codes)
                batches.clear()
                quantizer.after_step()

        self.handles = [
            quantizer.register_forward_pre_hook(before_forward),
            quantizer.register_forward_hook(after_forward),
            optimizer.register_step_post_hook(after_step),
        ]


@torch.no_grad()
def begin(quantizer: Any, latents: torch.Tensor) -> None:
    """Initialises the codes by the first batch, unless the first process has loaded some; alike on all processes."""
    if broadcast_from_first(torch.tensor(int(quantizer.loaded), device=latents.device)):
        quantizer.start_from_table()
    else:
        quantizer.init_from(latents.float())
    for value in quantizer.state_dict().values():
        broadcast_from_first(value)


def unattached(quantizer: Any) -> dict[str, Any]:
    """What a copy of a quantizer consists of: all but the hooks, for it needs an optimizer of its own."""
    state = dict(quantizer.__dict__)
    attachment = ATTACHED.get(quantizer)
    ids = {handle.id for handle in attachment.handles} if attachment else set()
    for name in ("_forward_pre_hooks", "_forward_hooks"):
        state[name] = OrderedDict((k, hook) for k, hook in state[name].items() if k not in ids)
    return state


ATTACHED: WeakKeyDictionary[Any, Attachment] = WeakKeyDictionary()
"""The attachment of each quantizer; attaching again replaces it."""


def attach(quantizer: Any, optimizer: Optimizer, *, resumed: bool) -> None:
    """Attaches a `Quantizer` to an optimizer, and to none that it was attached to before."""
    optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate's holds the one that steps
    earlier = ATTACHED.pop(quantizer, None)
    for handle in earlier.handles if earlier else ():
        handle.remove()
    begun = resumed or (earlier is not None and earlier.begun)
    ATTACHED[quantizer] = Attachment(quantizer, optimizer, begun)
