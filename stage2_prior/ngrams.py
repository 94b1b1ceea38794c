"""The trivial baselines of a prior: unigrams and bigrams of codes."""

import math

import numpy as np
from datasets import Dataset

MOST_CODES = 2**24
"""Codes of the training rows that are counted, at most; rows spread over all of them."""

Flat = np.ndarray
"""Codes of many rows one after the other, int64."""


def flat_rows(rows: Dataset, sizes: tuple[int, ...], ends: bool) -> tuple[Flat, Flat]:
    """Each code of the rows, and what it comes after: the code before it, or the start of a row.

    A code of a level stands in an alphabet of its own behind those of the levels before, so that its level
    is known, as a prior knows it. `ends` adds each row's end, which such a prior predicts too. The symbols
    are the codes, then the end, then the start.
    """
    found = rows.select_columns(["codes"]).with_format("numpy")
    step = max(1, -(-len(found) * len(found[0]["codes"]) // MOST_CODES))
    starts = np.cumsum([0, *sizes])
    end, start = starts[-1], starts[-1] + 1
    after, before = [], []
    for batch in found.select(range(0, len(found), step)).iter(10_000):
        for row in batch["codes"]:
            codes = row.astype(np.int64) + starts[np.arange(len(row)) % len(sizes)]
            codes = np.append(codes, end) if ends else codes
            after.append(codes)
            before.append(np.append(start, codes[:-1]))
    return np.concatenate(after), np.concatenate(before)


def levels_of(sizes: tuple[int, ...], ends: bool) -> Flat:
    """The level of each symbol: a row may end where a code of the first could stand, and never starts again."""
    levels = len(sizes)
    return np.append(np.repeat(np.arange(levels), sizes), [0 if ends else levels, levels])


def unigram_shares(train: Flat, levels: Flat) -> np.ndarray:
    """Each symbol's share among those of its level, each counted once more than it was seen."""
    counts = np.bincount(train, minlength=len(levels)) + 1.0
    return counts / np.bincount(levels, weights=counts)[levels]


def unigram_nats(train: Flat, held_out: Flat, levels: Flat) -> float:
    """Held-out nats per code of the unigram table."""
    return float(-np.log(unigram_shares(train, levels)[held_out]).mean())


def bigram_nats(train: tuple[Flat, Flat], held_out: tuple[Flat, Flat], levels: Flat) -> float:
    """Held-out nats per code of the bigram table, smoothed with the unigrams (Witten and Bell 1991).

    p(code | before) = (n(before, code) + t p(code)) / (n(before) + t), where t is how many different codes
    were seen after `before`. Pairs that occur are all that is stored.
    """
    symbols = len(levels)
    pairs, counts = np.unique(train[1] * symbols + train[0], return_counts=True)
    contexts = pairs // symbols
    times = np.bincount(contexts, weights=counts, minlength=symbols)
    kinds = np.bincount(contexts, minlength=symbols)
    after, before = held_out
    wanted = before * symbols + after
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, counts[place], 0)
    single = unigram_shares(train[0], levels)[after]
    t, n = kinds[before], times[before]
    known = n > 0
    share = np.where(known, (seen + t * single) / np.where(known, n + t, 1), single)
    return float(-np.log(share).mean())


def baselines(
    train: Dataset, held_out: Dataset, sizes: tuple[int, ...], ends: bool
) -> dict[str, float]:
    """Held-out nats per code of chance, of unigrams and of bigrams."""
    levels = levels_of(sizes, ends)
    counted, asked = (flat_rows(rows, sizes, ends) for rows in (train, held_out))
    return {
        "baseline/chance_nats": sum(map(math.log, sizes)) / len(sizes),
        "baseline/unigram_nats": unigram_nats(counted[0], asked[0], levels),
        "baseline/bigram_nats": bigram_nats(counted, asked, levels),
    }
