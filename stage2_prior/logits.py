"""From logits to a code: guidance, what a place allows, temperature, top-k, top-p, repetitions."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stage2_prior.config import PriorConfig
from stage2_prior.sampling_options import WINDOW, SamplingOptions, Schedule

COLDEST = 1e-30
"""The temperature below which the likeliest code is taken, as at 0: logits divided by it might be infinite."""
PROBABILITIES_AT_ONCE = 2**20
"""Probabilities that are computed at once on a CPU: 8 MB, which a cache holds; each sample's are by themselves."""
GPU_PROBABILITIES_AT_ONCE = 2**26
"""The same on a GPU, where few calls are faster: half a gigabyte."""


def classifier_free_guidance(
    states: Float[Tensor, "_ w"], place: int, length: int, levels: int, options: SamplingOptions
) -> Float[Tensor, "b w"]:
    """The guided states u + s (c - u): c is the batch's first half, and u, without condition, its second.

    Without guidance, all states as they are. The scale s is that of the position of the code at `place`: there are
    `length` codes, `levels` to a position. Logits are linear in states: guiding the states halves the work for logits.
    """
    if options.guidance == 1:
        return states
    along = place // levels, length // levels
    scale = guidance_at(*along, options.guidance, options.schedule, options.power)
    conditional, unconditional = states.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def guidance_at(
    position: int, positions: int, guidance: float, schedule: Schedule, power: float
) -> float:
    """The guidance scale of one position: 1 at the first and `guidance` at the last, or constant.

    `power-cosine` is 1 + (guidance - 1) (1 - cos(pi (i / (n - 1))^power)) / 2 (RAR, arXiv 2411.00776, whose code
    divides by n and so never reaches the full scale).
    """
    along = position / max(positions - 1, 1)
    if schedule == "constant":
        return guidance
    if schedule == "linear":
        return 1 + (guidance - 1) * along
    return 1 + (guidance - 1) * (1 - math.cos(math.pi * along**power)) / 2


def mask_logits(
    logits: Float[Tensor, "b k"], config: PriorConfig, place: int, min_codes: int
) -> None:
    """Sets to -inf, in place, the logits of codes of other levels, and of an end that is early or inside a position."""
    logits[:, config.level_sizes[place % config.levels] : config.codebook_size] = -torch.inf
    if config.ends and (place < min_codes or place % config.levels):
        logits[:, config.codebook_size] = -torch.inf


def next_codes(
    logits: Float[Tensor, "b k"],
    random: Float[Tensor, "b r"],
    codes: Int[Tensor, "b n"],
    levels: int,
    options: SamplingOptions,
) -> Int[Tensor, " b"]:
    """The next code; one too frequent among the last of its level is drawn again, from the whole distribution."""
    chosen = sample_from_logits(
        logits, random[:, 0], options.temperature, options.top_k, options.top_p
    )
    if options.repetitions is None:
        return chosen
    same_level = codes[:, codes.shape[1] % levels :: levels]
    count = (same_level[:, -WINDOW:] == chosen[:, None]).sum(1)
    return sample_from_logits(logits, random[:, -1], 1.0, 0, 1.0).where(
        count > options.repetitions, chosen
    )


def sample_from_logits(
    logits: Float[Tensor, "b k"],
    random: Float[Tensor, " b"],
    temperature: float,
    top_k: int,
    top_p: float,
) -> Int[Tensor, " b"]:
    """One code per sample, where the cumulative distribution passes `random`; see SamplingOptions for the rest."""
    if temperature < COLDEST:
        return logits.argmax(1)
    logits = logits / temperature
    if top_k:
        kth = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(1, descending=True)
        probabilities = ordered.softmax(1)
        beyond = probabilities.cumsum(1) - probabilities >= top_p
        logits = logits.scatter(1, order, ordered.masked_fill(beyond, -torch.inf))
    on_cpu = logits.device.type == "cpu"
    most = PROBABILITIES_AT_ONCE if on_cpu else GPU_PROBABILITIES_AT_ONCE
    height = max(most // logits.shape[1], 1)
    chunks = zip(logits.split(height), random.split(height), strict=True)
    return torch.cat([inverse_cdf(*chunk) for chunk in chunks])


def inverse_cdf(logits: Float[Tensor, "b k"], random: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The codes at which the cumulative distributions pass `random`."""
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    cumulative = logits.softmax(1, dtype=exact).cumsum_(1)
    target = random.to(exact).unsqueeze(1) * cumulative[:, -1:]
    codes = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    return codes.clamp_max(logits.shape[1] - 1)
