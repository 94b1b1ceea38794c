"""Drawing codes until each sample ends: lengths, prompts, repetitions, one random stream per sample."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from stage2_prior.model import IGNORED
from stage2_prior.sampling import choose, uniforms, within_level
from stage2_prior.speech_model import SpeechPrior, check_lengths

WINDOW = 10
"""Last codes in which repetitions are counted (VALL-E 2, arXiv 2406.05370)."""


@torch.no_grad()
def sample_until_end(
    prior: SpeechPrior,
    conditions: Int[Tensor, "b p"],
    seeds: Sequence[int],
    *,
    prompts: Sequence[Int[Tensor, " _"]] | None = None,
    guidance: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_codes: int | None = None,
    max_codes: int | None = None,
    repetitions: int | None = None,
) -> list[Int[Tensor, " _"]]:
    """The codes of each sample, without the end, its prompt included; seed i alone decides sample i.

    Lengths are the prior's own unless given. A drawn code that occurs more than `repetitions` times
    among the last WINDOW of its level is drawn again from the whole distribution; None never does.
    Raises ValueError for lengths that the prior does not allow and for a prompt that leaves no room.
    """
    config, (low, high) = prior.config, lengths_in_codes(prior, min_codes, max_codes)
    known = padded(prompts, len(seeds), high).to(conditions.device)
    random = uniforms(seeds, 2 * high).to(conditions.device).unflatten(1, (high, 2))
    shared = int((known != IGNORED).sum(1).min())  # what all prompts have goes in at once
    shared -= shared % config.codes_per_input
    codes = known[:, :shared]
    begun = _twice(prior.seen(codes), guidance)
    inputs = torch.cat([prior.prefix(asked(prior, conditions, guidance)), begun], dim=1)
    cache = prior.new_cache(len(inputs))
    ended = torch.zeros(len(seeds), dtype=torch.bool, device=conditions.device)
    for position in range(shared, high):
        logits = prior.step(inputs, cache, None if guidance == 1 else guidance)
        rule_out(logits, prior, position, low)
        drawn = choose(logits, random[:, position, 0], temperature, top_k, top_p)
        if repetitions is not None:
            same = codes[:, position % config.levels :: config.levels]
            drawn = varied(drawn, same, logits, random[:, position, 1], repetitions)
        if position < known.shape[1]:
            drawn = known[:, position].where(known[:, position] != IGNORED, drawn)
        ended |= drawn == config.codebook_size
        codes = torch.cat([codes, drawn.masked_fill(ended, IGNORED)[:, None]], dim=1)
        if ended.all():
            break
        inputs = _twice(prior.after(codes.clamp_min(0)), guidance)
    return [row[row != IGNORED] for row in codes]


def rule_out(logits: Float[Tensor, "b k"], prior: SpeechPrior, position: int, low: int) -> None:
    """Rules out, in place, codes of other levels, and an end before `low` codes or inside a position."""
    within_level(logits, prior.config, position)
    if position < low or position % prior.config.levels:
        logits[:, prior.config.codebook_size] = -torch.inf


def varied(
    drawn: Int[Tensor, " b"],
    codes: Int[Tensor, "b n"],
    logits: Float[Tensor, "b k"],
    random: Float[Tensor, " b"],
    repetitions: int,
) -> Int[Tensor, " b"]:
    """The drawn codes, but those drawn again that occur too often at the end of `codes`."""
    seen = (codes[:, -WINDOW:] == drawn[:, None]).sum(1)
    return choose(logits, random, 1.0, 0, 1.0).where(seen > repetitions, drawn)


def lengths_in_codes(
    prior: SpeechPrior, min_codes: int | None, max_codes: int | None
) -> tuple[int, int]:
    """The least and the most codes of a sample. Raises ValueError for more than the prior allows."""
    low = prior.config.min_codes if min_codes is None else min_codes
    high = prior.config.max_codes if max_codes is None else max_codes
    check_lengths(low, high, prior.config.levels)
    if high > prior.config.max_codes:
        raise ValueError(
            f"max_codes={high}: this prior's samples have at most {prior.config.max_codes} codes, as "
            "train-prior's max_codes said"
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


def asked(
    prior: SpeechPrior, conditions: Int[Tensor, "b p"], guidance: float
) -> Int[Tensor, "_ p"]:
    """The conditions of all rows of the body's batch: with guidance a second half has none."""
    none = torch.tensor(prior.config.no_condition, device=conditions.device)
    return conditions if guidance == 1 else torch.cat([conditions, none.expand_as(conditions)])


def _twice(inputs: Float[Tensor, "b n w"], guidance: float) -> Float[Tensor, "_ n w"]:
    """The inputs; with guidance once for either half of the batch."""
    return inputs if guidance == 1 else torch.cat([inputs, inputs])
