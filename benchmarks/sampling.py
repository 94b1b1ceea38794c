"""Sampling codes with guidance: `sample_codes` against transformers' `generate(guidance_scale=...)` of the same weights.

`generate` is called as its documentation says: in one call, with its dynamic and with its static cache, over the whole
distribution (top_k=0) and without an end. It calls the model twice per code, with and without the condition; ours
calls it once with a batch of double size.

A code costs at least one product with every weight of body and output, with and without the condition: for `3m` and
16,384 codes 2 x 2 x 6.2 M = 25 MFLOP, half of them at the output. With small batches most time goes into calling
operators instead: 510 calls per code by ours, 1,090 by `generate` with its dynamic cache and 1,154 with its static one.

By default, cells of more than `most_codes` codes are left out, as they take minutes; `most_codes=65536` keeps all.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.side_by_side import DEVICE, Timing, alternate, report
from benchmarks.stock import stock_model
from common.config import load_config
from stage2_prior import Prior, PriorConfig
from stage2_prior.decoding import Size
from stage2_prior.sampling import sample_codes
from stage2_prior.sampling_options import SamplingOptions


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured."""

    size: Size = "3m"
    """Of the prior."""
    codebook_size: int = 16_384
    lengths: tuple[int, ...] = (64, 256)
    """Codes of one sample."""
    batches: tuple[int, ...] = (1, 16, 64, 256)
    """Samples in one batch."""
    most_codes: int = 4096
    """Cells with more codes than this, samples times length, are left out."""
    classes: int = 10
    guidance: float = 2.0
    rounds: int = 5


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One line of the table."""

    length: int
    batch: int
    timings: dict[str, Timing]


def new_prior(sizes: Sizes, length: int) -> Prior:
    """A prior as it is before training: the time that a code takes does not depend on its weights."""
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=sizes.codebook_size,
        code_dim=32,
        length=length,
        classes=sizes.classes,
        size=sizes.size,
    )
    return Prior(config).to(DEVICE).eval()


def ours(prior: Prior, labels: Tensor, guidance: float, temperature: float = 1.0) -> Tensor:
    """A sample for each label, of seeds 0, 1, 2, ..."""
    options = SamplingOptions(guidance=guidance, temperature=temperature)
    return sample_codes(prior, labels[:, None], range(len(labels)), options)


def theirs(
    stock: Any,
    labels: Tensor,
    no_label: int,
    length: int,
    guidance: float,
    **how: Any,
) -> Tensor:
    """The same by `generate`: codes that stand for labels are the prompts."""
    prompts = labels[:, None]
    codes = stock.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        negative_prompt_ids=torch.full_like(prompts, no_label),
        guidance_scale=guidance,
        max_new_tokens=length,
        pad_token_id=no_label,
        **how,
    )
    return codes[:, 1:]


def ways(sizes: Sizes, length: int, batch: int) -> dict[str, Callable[[], Tensor]]:
    """Each way of sampling one batch."""
    prior = new_prior(sizes, length)
    stock = stock_model(prior).eval()
    labels = torch.arange(batch, device=DEVICE) % sizes.classes
    shared = stock, labels, prior.config.classes, length, sizes.guidance
    sampled: dict[str, Any] = {"do_sample": True, "top_k": 0}
    return {
        "ours": lambda: ours(prior, labels, sizes.guidance),
        "dynamic": lambda: theirs(*shared, **sampled),
        "static": lambda: theirs(*shared, **sampled, cache_implementation="static"),
    }


def compare(sizes: Sizes) -> list[Cell]:
    """The times of every cell that is not left out."""
    return [
        Cell(
            length=length,
            batch=batch,
            timings=alternate(ways(sizes, length, batch), sizes.rounds, DEVICE),
        )
        for length in sizes.lengths
        for batch in sizes.batches
        if length * batch <= sizes.most_codes
    ]


def line(cell: Cell) -> list[str]:
    """Codes per second of each way, and how many times as fast ours is."""
    seconds = {name: timing.median for name, timing in cell.timings.items()}
    speeds = [f"{cell.length * cell.batch / each:,.0f}" for each in seconds.values()]
    ratios = [f"{seconds[name] / seconds['ours']:.2f}x" for name in ("dynamic", "static")]
    return [str(cell.length), str(cell.batch), *speeds, *ratios]


HEADER = (
    *("codes", "samples", "ours, codes/s", "generate, dynamic cache"),
    *("generate, static cache", "ours against dynamic", "against static"),
)

if __name__ == "__main__":
    chosen = load_config(Sizes, None, sys.argv[1:])
    cells = compare(chosen)
    report("sampling", HEADER, [line(cell) for cell in cells], {"sizes": chosen, "cells": cells})
