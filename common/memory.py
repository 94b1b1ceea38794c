"""How much memory a process has needed at most."""

import resource
import sys

import torch

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the operating system counts."""


def peak_memory(device: torch.device) -> float:
    """GiB since the start: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**30
