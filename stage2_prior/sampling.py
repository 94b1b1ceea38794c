"""Drawing codes: key-value cache, batched guidance, one random stream per sample."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.seeding import generator_at
from stage2_prior.model import Prior, PriorConfig

Schedule = Literal["constant", "linear", "power-cosine"]
NUMBERS_AT_ONCE = 2**20
"""Probabilities that are made at once: 8 MB, which a cache holds; each row is a draw of its own."""


def uniforms(seeds: Sequence[int], length: int) -> Float[Tensor, "b n"]:
    """The random numbers of each sample: one in [0, 1) per code, a function of its seed alone."""
    rows = [torch.rand(length, generator=generator_at(seed, 0)) for seed in seeds]
    return torch.stack(rows)


def guidance_at(
    position: int, length: int, guidance: float, schedule: Schedule, power: float
) -> float:
    """The guidance scale of one position: 1 at the first and `guidance` at the last, or constant.

    `power-cosine` is 1 + (guidance - 1) (1 - cos(pi (i / (n - 1))^power)) / 2 (RAR, arXiv 2411.00776, whose code
    divides by n and so never reaches the full scale).
    """
    along = position / max(length - 1, 1)
    if schedule == "constant":
        return guidance
    if schedule == "linear":
        return 1 + (guidance - 1) * along
    return 1 + (guidance - 1) * (1 - math.cos(math.pi * along**power)) / 2


@torch.no_grad()
def sample_codes(
    prior: Prior,
    conditions: Int[Tensor, " b"],
    random: Float[Tensor, "b n"],
    *,
    guidance: float = 1.0,
    schedule: Schedule = "constant",
    power: float = 2.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Int[Tensor, "b n"]:
    """Draws as many codes per condition as `random` has columns; row i of `random` alone decides sample i.

    With guidance the batch is doubled, its second half asked without condition, in one forward:
    logits = u + s (c - u). `temperature=0` takes the likeliest code.
    """
    twice, scale = guidance != 1, None
    if twice:
        conditions = torch.cat([conditions, torch.full_like(conditions, prior.no_condition)])
    inputs = prior.prefix(conditions)
    random = random.to(inputs.device)
    cache, levels = prior.new_cache(len(inputs)), prior.config.levels
    length = random.shape[1]
    codes = torch.empty(len(random), 0, dtype=torch.int64, device=random.device)
    for number in range(length):
        if twice:
            place = number // levels, length // levels
            scale = guidance_at(*place, guidance, schedule, power)
        logits = prior.step(inputs, cache, scale)
        within_level(logits, prior.config, number)
        drawn = choose(logits, random[:, number], temperature, top_k, top_p)
        codes = torch.cat([codes, drawn[:, None]], dim=1)
        inputs = prior.after(codes)
        if twice:
            inputs = torch.cat([inputs, inputs])
    return codes


def within_level(logits: Float[Tensor, "b k"], config: PriorConfig, number: int) -> None:
    """Rules out, in place, codes that an item's code of this number can't be: its level may have fewer."""
    size = config.level_sizes[number % config.levels]
    logits[:, size : config.codebook_size] = -torch.inf


def choose(
    logits: Float[Tensor, "b k"],
    random: Float[Tensor, " b"],
    temperature: float,
    top_k: int,
    top_p: float,
) -> Int[Tensor, " b"]:
    """One code per row by inverting the cumulative distribution at `random`.

    top_k keeps the k likeliest codes (0: all), top_p the fewest that together reach that probability.
    """
    if temperature == 0:
        return logits.argmax(1)
    logits = logits / temperature
    if top_k:
        kth = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(1, descending=True)
        shares = ordered.softmax(1)
        beyond = shares.cumsum(1) - shares >= top_p
        logits = logits.masked_fill(beyond.gather(1, order.argsort(1)), -torch.inf)
    rows = max(NUMBERS_AT_ONCE // logits.shape[1], 1)
    pairs = zip(logits.split(rows), random.split(rows), strict=True)
    return torch.cat([inverted(*pair) for pair in pairs])


def inverted(logits: Float[Tensor, "b k"], random: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The codes at which the cumulative distributions pass `random`."""
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    cumulative = logits.softmax(1, dtype=exact).cumsum_(1)
    target = random.to(exact).unsqueeze(1) * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    return found.clamp_max(logits.shape[1] - 1)
