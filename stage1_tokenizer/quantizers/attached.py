"""Lets a quantizer update itself in any training loop, driven by its forward calls and the optimizer's steps."""

from typing import Any

import torch
from torch.optim import Optimizer

from common.processes import broadcast_from_first, sum_over_processes


class Attachment:
    """What calls `init_from`, `accumulate` and `after_step` of a `Quantizer` when it is their time."""

    def __init__(
        self, quantizer: Any, optimizer: Optimizer, begun: bool, accumulates: bool
    ) -> None:
        self.quantizer, self.begun = quantizer, begun
        self.accumulates = accumulates
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._due = False
        # not decorators, which would import torch._dynamo with this file; here the optimizer has imported it
        self.before_forward = torch.compiler.disable(self._before_forward)
        self.after_forward = torch.compiler.disable(self._after_forward)
        # accelerate's wrapper holds the optimizer that steps
        optimizer = getattr(optimizer, "optimizer", optimizer)
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def end(self) -> None:
        """Leaves the optimizer's steps alone from now on."""
        self._handle.remove()

    def _before_forward(self, module: Any, vectors: torch.Tensor) -> None:
        """Initialises the codes by the first batch. Raises ValueError where `module` is a copy of the quantizer."""
        if module is not self.quantizer:
            raise ValueError(
                "DataParallel's copies of an attached quantizer can't learn: use DistributedDataParallel"
            )
        if self._counts() and not self.begun:
            self.begun = begin(self.quantizer, vectors.detach().float())

    def _after_forward(self, out: Any) -> None:
        """Keeps what was quantized until the optimizer's step, where the quantizer accumulates it."""
        if self._counts() and self.begun:
            self._due = True
            if self.accumulates:
                self._batches.append((out.inputs, out.input_codes))

    def _counts(self) -> bool:
        """Whether a forward counts as a training batch: if gradients are on. A quantizer that accumulates learns from
        latents alone: for it every forward counts, but not one that checkpointing repeats in the backward pass."""
        if self.accumulates:
            return torch._C._current_graph_task_id() == -1
        return torch.is_grad_enabled()

    def _after_step(self, *_: Any) -> None:
        if self._due:
            self._due = False
            for inputs, codes in self._batches:
                self.quantizer.accumulate(inputs, codes)
            self._batches.clear()
            self.quantizer.after_step()


@torch.no_grad()
def begin(quantizer: Any, latents: torch.Tensor) -> bool:
    """Initialises the codes from a batch, unless the first process has loaded some; alike on all processes.

    Returns False, and does nothing, if codes must be initialised and a process has no finite vector.
    """
    if broadcast_from_first(torch.tensor(int(quantizer.loaded), device=latents.device)):
        quantizer.start_from_table()
    elif sum_over_processes((~latents.isfinite().all(-1).any()).long()):
        return False
    else:
        quantizer.init_from(latents)
    for value in quantizer.state_dict().values():
        broadcast_from_first(value)
    return True
