"""Parameters, memory and operations of every recipe, counted without running it: `python -m benchmarks.sizes`.

The networks of each recipe are traced on the device `meta`, where tensors have shapes and no values: a whole step of
training, losses and discriminator included (LPIPS is not), at the recipe's batch size. Memory is in float32: what
training keeps for good (weights, gradients, AdamW's two moments, averaged weights) and what a step keeps from its
forward for its backward. Operations are those of matrix products
and convolutions, a multiplication and an addition counted as two; an item is an image, a crop or two seconds.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.traces import (
    TracedTraining,
    new_codes,
    new_items,
    new_prior,
    new_tokenizer,
    on_meta,
    recipes,
)
from pipelines.experiment import Experiment

HEADER = (
    *("recipe", "network", "parameters (M)", "batch"),
    *("kept (GiB)", "per step (GiB)", "GFLOP per item, training", "forward"),
)


class Size(NamedTuple):
    """What a network takes to train."""

    network: str
    parameters: int
    """Of the network that is saved."""
    batch: int
    kept: int
    """Bytes that training holds from step to step."""
    per_step: int
    """Bytes that a step holds between its forward and its backward."""
    training: float
    """Operations of a training step, for one of its items."""
    forward: float
    """Operations of encoding and decoding an item, or of a prior's forward."""


def sizes(recipe: Experiment) -> list[Size]:
    """Those of the recipe's tokenizer and of its prior."""
    with on_meta():
        return [tokenizer_size(recipe), prior_size(recipe)]


def tokenizer_size(recipe: Experiment) -> Size:
    """Size of a recipe's tokenizer; all but `parameters` and `forward` include the discriminator."""
    config = recipe.config("tokenizer")
    training, tokenizer = TracedTraining(config, "meta"), new_tokenizer(config, "meta")
    items = new_items(config, config.batch_size, "meta")
    modules = [tokenizer, *filter(None, [training.discriminator])]
    held, step = one_step(lambda: training.losses(tokenizer, items).values())
    tokenizer.eval()
    forward = operations(lambda: tokenizer.reconstruct(items))
    return new_size("tokenizer", modules, config, held, step, forward)


def prior_size(recipe: Experiment) -> Size:
    """Size of a recipe's prior; `forward` takes a whole sequence at once, without a cache."""
    config, prior = recipe.config("prior"), new_prior(recipe, "meta")
    batch = new_codes(prior, config.batch_size, "meta")
    held, step = one_step(lambda: [prior(*batch)])
    with torch.no_grad():
        forward = operations(lambda: prior.eval()(*batch))
    return new_size("prior", [prior], config, held, step, forward)


def new_size(
    network: str, modules: list[nn.Module], config: Any, held: int, step: float, forward: float
) -> Size:
    """A row, of whole batches."""
    kept = sum(map(trained_bytes, modules))
    if config.ema_decay:
        kept += sum(4 * p.numel() for p in modules[0].parameters() if p.requires_grad)
    count = sum(p.numel() for p in modules[0].parameters())
    per_item = step / config.batch_size, forward / config.batch_size
    return Size(network, count, config.batch_size, kept, held, *per_item)


def trained_bytes(module: nn.Module) -> int:
    """Bytes of weights, buffers, and trained weights' gradients and moments."""
    copies = ((4 if p.requires_grad else 1) * p.nbytes for p in module.parameters())
    return sum(copies) + sum(buffer.nbytes for buffer in module.buffers())


def one_step(losses: Callable[[], Iterable[Tensor]]) -> tuple[int, float]:
    """Bytes that a forward keeps for its backward beside the weights, and the operations of both."""
    storages: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(saved: Tensor) -> Tensor:
        if not isinstance(saved, nn.Parameter):
            kept.append(saved)  # else another tensor could get its place
            storage = saved.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
        return saved

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            total = torch.stack(list(losses())).sum()
        total.backward()
    return sum(storages.values()), float(counter.get_total_flops())


def operations(forward: Callable[[], object]) -> float:
    """Those of a call."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops())


def table() -> str:
    """A row for each network of each recipe, in Markdown."""
    rows = []
    for name, recipe in recipes().items():
        for size in sizes(recipe):
            values = (
                f"{size.parameters / 1e6:.2f}",
                size.batch,
                f"{size.kept / 2**30:.2f}",
                f"{size.per_step / 2**30:.2f}",
                f"{size.training / 1e9:,.2f}",
                f"{size.forward / 1e9:,.2f}",
            )
            rows.append((name, size.network, *values))
    return tabulate(rows, HEADER, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    print(table())
