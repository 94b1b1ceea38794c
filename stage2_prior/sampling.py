"""The loop that samples codes: lengths, prompts, one random stream per sample. logits.py guides and chooses."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from common.seeding import generator_at
from stage2_prior.config import PriorConfig
from stage2_prior.logits import classifier_free_guidance, mask_logits, next_codes
from stage2_prior.model import IGNORED, Prior
from stage2_prior.orders import Places, in_raster
from stage2_prior.sampling_options import SamplingOptions


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
    """Yields all codes so far, (b, n), in the order of sampling, after each sampled code; call it without gradients.

    With guidance, one forward computes a doubled batch, whose second half has no condition.
    """
    options, config = options or SamplingOptions(), prior.config
    low, high = lengths_in_codes(config, options.min_codes, options.max_codes)
    given = padded(prompts, len(seeds), high).to(conditions.device)
    random = uniforms(seeds, high, values_per_code(config, options)).to(conditions.device)
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


def with_unconditional(conditions: Int[Tensor, "b p"], config: PriorConfig) -> Int[Tensor, "b2 p"]:
    """The conditions, and after them as many that are none."""
    none = torch.tensor(config.no_condition, device=conditions.device)
    return torch.cat([conditions, none.expand_as(conditions)])


def doubled(inputs: Float[Tensor, "b n w"], guided: bool) -> Float[Tensor, "_ n w"]:
    """The inputs; with guidance once for either half of the batch."""
    return torch.cat([inputs, inputs]) if guided else inputs


def uniforms(seeds: Sequence[int], length: int, per_code: int = 1) -> Float[Tensor, "b n r"]:
    """The random values in [0, 1) of each sample's codes, a function of its seed alone.

    Where sequences end, or repetitions are replaced, each code takes two: the second is for the replacement.
    """
    flat = [torch.rand(length * per_code, generator=generator_at(seed, 0)) for seed in seeds]
    return torch.stack(flat).unflatten(1, (length, per_code))


def values_per_code(config: PriorConfig, options: SamplingOptions) -> int:
    """Random values that a code takes: two where it may be drawn again."""
    return 2 if config.ends or options.repetitions is not None else 1


def lengths_in_codes(
    config: PriorConfig, min_codes: int | None, max_codes: int | None
) -> tuple[int, int]:
    """The fewest and most codes of a sample, the prior's own unless given. Raises ValueError for what it forbids."""
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
