"""How much memory a process has needed at most."""

import resource
import sys
from pathlib import Path

import torch

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of `getrusage`."""
STATUS = Path("/proc/self/status")
"""Where Linux reports the peak of this program alone; `getrusage` also counts what the parent had when starting it."""


def peak_memory(device: torch.device) -> float:
    """GiB since the start: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if STATUS.is_file():
        highest = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(highest.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**30
