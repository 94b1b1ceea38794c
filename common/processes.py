"""The processes of a run."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def processes() -> PartialState:
    """This process's place among all of the run: on accelerators, or on CPUs joined by gloo."""
    no_accelerator = not torch.accelerator.is_available()
    return PartialState(cpu=no_accelerator or parse_flag_from_env("ACCELERATE_USE_CPU"))
