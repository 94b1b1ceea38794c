"""Sampling codes: guidance, lengths, prompts, one random stream per sample."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from common.seeding import generator_at
from stage2_prior.config import PriorConfig
from stage2_prior.model import IGNORED, Prior
from stage2_prior.orders import Places, in_raster

Schedule = Literal["constant", "linear", "power-cosine"]
COLDEST = 1e-30
"""The temperature below which the likeliest code is taken, as at 0: logits divided by it might be infinite."""
PROBABILITIES_AT_ONCE = 2**20
"""Probabilities that are computed at once on a CPU: 8 MB, which a cache holds; each sample's are by themselves."""
GPU_PROBABILITIES_AT_ONCE = 2**26
"""The same on a GPU, where few calls are faster: half a gigabyte."""
WINDOW = 10
"""Last codes in which repetitions are counted (VALL-E 2, arXiv 2406.05370)."""
NUMBERS = ("guidance", "power", "temperature", "top_p")
WHOLES = ("top_k", "min_codes", "max_codes", "repetitions")
"""Options that are numbers, and that are whole numbers, the latter None for none but for top_k."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How codes are chosen."""

    guidance: float = 1.0
    """The scale s of logits = u + s (c - u), where u is without condition; 1 is no guidance. Classifier-free guidance
    (arXiv 2207.12598), whose w is s - 1."""
    schedule: Schedule = "constant"
    power: float = 2.0
    """How the scale grows along the sequence: see `guidance_at`."""
    temperature: float = 1.0
    """What logits are divided by; 0 takes the likeliest code."""
    top_k: int = 0
    """Only the k likeliest codes are chosen from; 0 for all."""
    top_p: float = 1.0
    """Only the fewest codes that together have this probability are chosen from: nucleus sampling (arXiv 1904.09751)."""
    min_codes: int | None = None
    max_codes: int | None = None
    """Lengths of samples; null for the prior's own."""
    repetitions: int | None = None
    """A code that occurs more often among the last WINDOW of its level is replaced by one from the whole
    distribution; null never replaces."""

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            known = ", ".join(get_args(Schedule))
            raise ValueError(f"schedule={self.schedule!r} must be one of {known}")
        for name in (*NUMBERS, *WHOLES):
            value, number = getattr(self, name), name in NUMBERS
            if value is None and name in WHOLES[1:]:
                continue
            if isinstance(value, bool) or not isinstance(value, Real if number else Integral):
                raise ValueError(f"{name}={value!r} must be a {'' if number else 'whole '}number")
        if not (math.isfinite(self.guidance) and 0 <= self.power < math.inf):
            raise ValueError(
                f"guidance={self.guidance} must be finite and power={self.power} 0 or more"
            )
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature} must be 0 or more")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_k={self.top_k} must be 0 or more and top_p={self.top_p} above 0 and at most 1"
            )
        if self.repetitions is not None and self.repetitions < 0:
            raise ValueError(
                f"repetitions={self.repetitions} must be 0 or more, or None for no replacement"
            )


@torch.no_grad()
def sample_codes(
    prior: Prior,
    conditions: Int[Tensor, "b p"],
    seeds: Sequence[int],
    options: SamplingOptions | None = None,
    prompts: Sequence[Int[Tensor, " _"]] | None = None,
    order: Places = None,
) -> Int[Tensor, "b n"]:
    """The codes of each sample, its prompt included, IGNORED after its end; seed i alone decides sample i.

    `order` has the places of codes, prompts' first, that are not sampled in raster order. Raises ValueError for
    lengths that the prior does not allow, for a prompt that leaves no room, and for a prior in training mode.
    """
    if prior.training and prior.config.dropout:
        raise ValueError(
            "the prior is in training mode, in which dropout changes samples: call eval()"
        )
    for so_far in stream_codes(prior, conditions, seeds, options, prompts, order):
        codes = so_far
    return in_raster(codes, order)


def stream_codes(
    prior: Prior,
    conditions: Int[Tensor, "b p"],
    seeds: Sequence[int],
    options: SamplingOptions | None = None,
    prompts: Sequence[Int[Tensor, " _"]] | None = None,
    order: Places = None,
) -> Iterator[Tensor]:
    """After each code of `sample_codes` those so far, (b, n), in the order of sampling; to be called without gradients.

    With guidance the batch is doubled, its second half without condition, in one forward.
    """
    options, config = options or SamplingOptions(), prior.config
    low, high = lengths_in_codes(config, options.min_codes, options.max_codes)
    given = padded(prompts, len(seeds), high).to(conditions.device)
    random = uniforms(seeds, high, 1 + config.ends).to(conditions.device)
    shared = int((given != IGNORED).sum(1).min()) // config.codes_per_input * config.codes_per_input
    codes = given[:, :shared]  # what all prompts have goes in at once
    guided = options.guidance != 1
    conditions = with_unconditional(conditions, config) if guided else conditions
    order = torch.cat([order, order]) if guided and order is not None else order
    inputs = torch.cat([prior.prefix(conditions), doubled(prior.first_inputs(codes), guided)], 1)
    inputs = prior.add_order_embeddings(inputs, order, shared)
    body = prior.cached_body(len(inputs))
    ended = torch.zeros(len(seeds), dtype=torch.bool, device=conditions.device)
    for place in range(shared, high):
        states = classifier_free_guidance(body(inputs), place, high, config.levels, options)
        logits = prior.logits(states, place)
        mask_logits(logits, config, place, low)
        chosen = next_codes(logits, random[:, place], codes, config.levels, options)
        if place < given.shape[1]:
            chosen = given[:, place].where(given[:, place] != IGNORED, chosen)
        if config.ends:
            ended |= chosen == config.codebook_size
            chosen = chosen.masked_fill(ended, IGNORED)
        codes = torch.cat([codes, chosen[:, None]], dim=1)
        yield codes
        if place + 1 == high or (config.ends and ended.all()):
            return
        inputs = doubled(prior.next_input(codes.clamp_min(0)), guided)
        inputs = prior.add_order_embeddings(inputs, order, place + 1)


def trimmed(codes: Int[Tensor, "b n"]) -> list[Int[Tensor, " _"]]:
    """Each sample without what stands after its end."""
    return [sample[sample != IGNORED] for sample in codes]


def classifier_free_guidance(
    states: Float[Tensor, "_ w"], place: int, length: int, levels: int, options: SamplingOptions
) -> Float[Tensor, "b w"]:
    """u + s (c - u), where c is the first half of the batch and u, without condition, the second; without guidance all.

    The scale s is that of the position of the code at `place` of `length`, of which a position has `levels`.

    Logits are a linear map of states, so combined here they need half of that map's work.
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


def with_unconditional(conditions: Int[Tensor, "b p"], config: PriorConfig) -> Int[Tensor, "b2 p"]:
    """The conditions, and after them as many that are none."""
    none = torch.tensor(config.no_condition, device=conditions.device)
    return torch.cat([conditions, none.expand_as(conditions)])


def doubled(inputs: Float[Tensor, "b n w"], guided: bool) -> Float[Tensor, "_ n w"]:
    """The inputs; with guidance once for either half of the batch."""
    return torch.cat([inputs, inputs]) if guided else inputs


def uniforms(seeds: Sequence[int], length: int, per_code: int = 1) -> Float[Tensor, "b n r"]:
    """The random values in [0, 1) of each sample's codes, a function of its seed alone.

    Where sequences end, each code takes two: the second is for a repetition's replacement.
    """
    flat = [torch.rand(length * per_code, generator=generator_at(seed, 0)) for seed in seeds]
    return torch.stack(flat).unflatten(1, (length, per_code))


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
    """The codes chosen after `codes`, but replacements of those that occur too often among the last of the same level."""
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


def lengths_in_codes(
    config: PriorConfig, min_codes: int | None, max_codes: int | None
) -> tuple[int, int]:
    """The least and the most codes of a sample, the prior's own unless given. Raises ValueError for more."""
    low = config.min_codes if min_codes is None else min_codes
    high = config.longest if max_codes is None else max_codes
    config.check_lengths(low, high)
    if high > config.longest:
        raise ValueError(
            f"max_codes={high}: this prior's samples have at most {config.longest} codes, the "
            "max_codes of train-prior"
        )
    return low, high


def padded(
    prompts: Sequence[Int[Tensor, " _"]] | None, count: int, max_codes: int
) -> Int[Tensor, "b n"]:
    """The prompts in one tensor, IGNORED past their ends. Raises ValueError for one that is too long."""
    if prompts is None:
        return torch.zeros(count, 0, dtype=torch.int64)
    if len(prompts) != count:
        raise ValueError(f"{len(prompts)} prompts for {count} samples: give one for each")
    longest = max(map(len, prompts))
    if longest >= max_codes:
        raise ValueError(
            f"a prompt of {longest} codes leaves no room below max_codes={max_codes}: give less of it"
        )
    return pad_sequence(list(prompts), batch_first=True, padding_value=IGNORED)
