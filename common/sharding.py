"""Sharded networks, of which each process holds a part: PyTorch's fully_shard (FSDP2), with states saved unsharded.

Importing PyTorch's modules for it takes half as long as torch, so they are imported only where needed.
"""

from typing import Any

import torch
from torch import Tensor, nn

from common.processes import processes


def shard(network: nn.Module) -> None:
    """Cuts a network's weights up over all processes, and with them their gradients and an optimizer's state.

    A layer is whole only while it computes; layers are the members of ModuleLists. `load_state_dict` still takes whole
    weights.
    """
    from torch.distributed import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = processes()
    mesh = init_device_mesh(place.device.type, (place.num_processes,))
    for modules in list(network.modules()):
        for module in modules if isinstance(modules, nn.ModuleList) else ():
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)

    def cut(module: nn.Module, weights: dict[str, Tensor], *_: Any) -> None:
        own = module.state_dict()
        for name in weights.keys() & own.keys():
            weights[name] = part_like(own[name], weights[name])

    network.register_load_state_dict_pre_hook(cut)


def take_whole_states(optimizer: torch.optim.Optimizer) -> None:
    """Lets an optimizer of weights that are cut up load the state of one whose weights are whole."""

    def cut(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        state = {
            i: {
                name: part_like(weights[i], value) if value.shape == weights[i].shape else value
                for name, value in values.items()
            }
            for i, values in state_dict["state"].items()
        }
        return state_dict | {"state": state}

    optimizer.register_load_state_dict_pre_hook(cut)


def part_like(own: Any, whole: Tensor) -> Tensor:
    """This process's part of `whole`, cut up as `own` is; all of `whole` if `own` is not cut up."""
    if not is_cut(own):
        return whole
    from torch.distributed.tensor import distribute_tensor

    here = whole.to(own.to_local().device)
    part = distribute_tensor(here, own.device_mesh, own.placements, src_data_rank=None)
    return part.clone()  # which lets go of the whole


def whole(tensor: Any) -> Tensor:
    """The whole tensor, gathered if each process has only a part of it; then all processes must call this."""
    everything: Tensor = tensor.full_tensor() if is_cut(tensor) else tensor
    return everything


def is_cut(tensor: Tensor) -> bool:
    """Whether it is a DTensor, of which each process has a part."""
    return hasattr(tensor, "device_mesh")


def whole_state(network: nn.Module) -> dict[str, Tensor]:
    """The whole weights, on the CPU; empty on all but the main process. All processes must call this."""
    state = {}
    for name, tensor in network.state_dict().items():
        everything = whole(tensor)
        if processes().is_main_process:
            state[name] = everything.cpu()
    return state
