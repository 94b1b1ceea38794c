"""The number of steps that a quantizer has seen, for its random choices and its schedules."""

import torch
from torch import Tensor, nn


class StepCounter(nn.Module):
    """A count that is saved with the weights and is read without waiting for the device."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))
        self.value = 0
        self.register_load_state_dict_post_hook(_read)

    def advance(self) -> None:
        """One step more."""
        self.value += 1
        self.steps.fill_(self.value)


def _read(counter: StepCounter, _: object) -> None:
    counter.value = int(counter.steps)
