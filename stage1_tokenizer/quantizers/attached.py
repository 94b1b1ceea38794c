"""A quantizer that takes part in somebody else's training loop, by hooks of its module and of the optimizer."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.optim import Optimizer

from common.processes import broadcast_from_first


class Attachment:
    """The hooks that call `init_from`, `accumulate` and `after_step` of a `Quantizer` when it is their time.

    A copy of the quantizer has the hooks of its forward too, which do nothing for it: it needs an optimizer of its
    own.
    """

    def __init__(self, quantizer: Any, optimizer: Optimizer, begun: bool) -> None:
        self.begun = begun
        batches: list[tuple[torch.Tensor, torch.Tensor]] = []

        def learns(module: Any) -> bool:
            return module is quantizer and quantizer.training and torch.is_grad_enabled()

        def before_forward(module: Any, inputs: tuple[Any, ...]) -> None:
            if learns(module) and not self.begun:
                self.begun = True
                with torch.no_grad():
                    quantizer.init_from(inputs[0].detach().float())
                    for value in quantizer.state_dict().values():
                        broadcast_from_first(value)

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


ATTACHED: WeakKeyDictionary[Any, Attachment] = WeakKeyDictionary()
"""The attachment of each quantizer; attaching again replaces it."""


def attach(quantizer: Any, optimizer: Optimizer, *, resumed: bool) -> None:
    """Attaches a `Quantizer` to an optimizer, and to none that it was attached to before."""
    earlier = ATTACHED.pop(quantizer, None)
    for handle in earlier.handles if earlier else ():
        handle.remove()
    begun = resumed or (earlier is not None and earlier.begun)
    ATTACHED[quantizer] = Attachment(quantizer, optimizer, begun)
