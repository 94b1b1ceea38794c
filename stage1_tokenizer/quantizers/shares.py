"""Entropies over the codes: of each vector's choice, and of the choices of a whole batch."""

import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from stage1_tokenizer.quantizers.base import sum_over_processes


def entropy(shares: Float[Tensor, "... k"]) -> Float[Tensor, "..."]:
    """Entropy in nats; a share of zero adds nothing, also to the gradient."""
    return -(shares * shares.clamp_min(1e-30).log()).sum(-1)


def over_processes(mean: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
    """The average over all processes in value, this process's mean in gradient.

    When the processes' gradients are averaged, as DistributedDataParallel does, that is the gradient on the
    union of their batches.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return mean
    total = sum_over_processes(mean.detach().clone()) / dist.get_world_size()
    return mean + (total - mean.detach())
