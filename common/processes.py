"""The processes of a run, and sums and gathers over all of them."""

from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from common.extras import named_extras

if TYPE_CHECKING:
    from accelerate import PartialState

TIMEOUT = timedelta(hours=12)
"""How long processes wait for one that works alone: NCCL's 10 minutes are less than the end of a large encode."""


def processes() -> "PartialState":
    """This process's place among all of the run: on accelerators, or on CPUs joined by gloo."""
    with named_extras():  # a quantizer alone does without
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env

    no_accelerator = not torch.accelerator.is_available()
    on_cpu = no_accelerator or parse_flag_from_env("ACCELERATE_USE_CPU")
    return PartialState(cpu=on_cpu, timeout=TIMEOUT)


@torch.no_grad()
def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes, written into `values` too; on one process, the values themselves."""
    if _several():
        dist.all_reduce(values)
    return values


@torch.no_grad()
def gather_over_processes(vectors: Shaped[Tensor, "n *d"]) -> Shaped[Tensor, "m *d"]:
    """The vectors of all processes, the same everywhere; each process gives equally many."""
    if not _several():
        return vectors
    parts = [torch.empty_like(vectors) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, vectors.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def broadcast_from_first(values: Tensor) -> Tensor:
    """The values of the first process, everywhere: sums taken in different orders may differ by rounding."""
    if _several():
        dist.broadcast(values, src=0)
    return values


def process_index() -> int:
    """This process's number among those that are joined; 0 alone."""
    return dist.get_rank() if _several() else 0


def average_over_processes(mean: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
    """The average over all processes in value, this process's mean in gradient.

    When the processes' gradients are averaged, as DistributedDataParallel does, that is the gradient on the
    union of their batches. Without gradients it is this process's mean: the others may not be evaluating.
    """
    if not (_several() and torch.is_grad_enabled()):
        return mean
    total = sum_over_processes(mean.detach().clone()) / dist.get_world_size()
    return mean + (total - mean.detach())


def _several() -> bool:
    """Whether processes are joined; checked at each call, for a module may be older than the group."""
    return dist.is_available() and dist.is_initialized()
