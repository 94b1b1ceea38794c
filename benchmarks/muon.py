"""A step of stage 2's Muon against torch's, on the matrices of a prior with the gradient of one batch.

torch multiplies in bfloat16 on any device. The work is 15 products of small matrices for each matrix and step, so
that what counts is how fast a processor multiplies in bfloat16: where it has no instructions for it, a step of the
optimizer takes longer than the forward and the backward pass together.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.side_by_side import DEVICE, Timing, alternate, report
from common.config import load_config
from common.training import OptimConfig
from stage2_prior import Prior, PriorConfig
from stage2_prior.decoding import Size
from stage2_prior.optimizers import matrices_of, new_optimizers

NAME = "muon"
OPTIM = OptimConfig(lr=8e-3, weight_decay=0.1)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured."""

    sizes: tuple[Size, ...] = ("1m", "10m")
    """Of the prior."""
    batch: int = 64
    """Rows of the forward and backward pass that stands beside."""
    length: int = 16
    """Codes of a row."""
    rounds: int = 5


def ways(config: Sizes, size: Size) -> dict[str, Callable[[], object]]:
    """Steps of both on the same gradients, and a forward and backward pass of the prior."""
    torch.manual_seed(0)
    prior = Prior(
        PriorConfig(
            codebook_size=512, code_dim=8, length=config.length, size=size, condition="none"
        )
    ).to(DEVICE)
    codes = torch.randint(512, (config.batch, config.length), device=DEVICE)
    conditions = prior.conditions(config.batch).to(DEVICE)
    prior(conditions, codes).backward()
    ours = new_optimizers(prior, "muon", OPTIM)[1]
    stock = torch.optim.Muon(
        matrices_of(prior).values(),
        OPTIM.lr,
        OPTIM.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return {
        "torch": stock.step,
        "ours": ours.step,
        "pass": lambda: prior(conditions, codes).backward(),
    }


def row(size: Size, timings: dict[str, Timing]) -> list[str]:
    """A line of the table."""
    torch_s, ours, both = (timings[name].median for name in ("torch", "ours", "pass"))
    times = [f"{1000 * seconds:.1f}" for seconds in (torch_s, ours, both)]
    return [size, *times, f"{torch_s / ours:.2f}"]


def main(overrides: list[str]) -> str:
    """The table."""
    config = load_config(Sizes, None, overrides)
    timings = {size: alternate(ways(config, size), config.rounds, DEVICE) for size in config.sizes}
    header = [
        *("prior", "torch.optim.Muon (ms)", "ours (ms)", "forward and backward (ms)"),
        "times faster",
    ]
    return report(NAME, header, [row(*each) for each in timings.items()], timings)


if __name__ == "__main__":
    main(sys.argv[1:])
