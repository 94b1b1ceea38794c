"""The trivial baselines of a prior: unigrams and bigrams of codes."""

import math

import numpy as np
from datasets import Dataset

from common.codes import code_sequences

Symbols = np.ndarray
"""Codes, ends and starts as integers, those of many sequences one after the other, int64."""


def symbols_of(items: Dataset, level_sizes: tuple[int, ...], ends: bool) -> tuple[Symbols, Symbols]:
    """Each symbol of the sequences, and the one before it: a code, or the start of a sequence.

    The symbols are the first level's codes, those of the next levels, the end and the start: a code's level is known,
    as it is to a prior. `ends` adds each sequence's end, which a prior of such sequences predicts, too.
    """
    offsets = np.cumsum([0, *level_sizes])
    end, start = offsets[-1], offsets[-1] + 1
    symbols, before = [], []
    for sequence in code_sequences(items):
        levels = np.arange(len(sequence)) % len(level_sizes)
        codes = sequence.astype(np.int64) + offsets[levels]
        codes = np.append(codes, end) if ends else codes
        symbols.append(codes)
        before.append(np.append(start, codes[:-1]))
    return np.concatenate(symbols), np.concatenate(before)


def symbol_levels(level_sizes: tuple[int, ...], ends: bool) -> Symbols:
    """The level of each symbol: an end stands where a code of the first could stand, and a start is never predicted."""
    levels = len(level_sizes)
    return np.append(np.repeat(np.arange(levels), level_sizes), [0 if ends else levels, levels])


def unigram_probabilities(train: Symbols, levels: Symbols) -> np.ndarray:
    """Each symbol's frequency among the symbols of its level, with add-one smoothing."""
    counts = np.bincount(train, minlength=len(levels)) + 1.0
    return counts / np.bincount(levels, weights=counts)[levels]


def unigram_nats(train: Symbols, held_out: Symbols, levels: Symbols) -> float:
    """Held-out nats per code of unigrams."""
    return float(-np.log(unigram_probabilities(train, levels)[held_out]).mean())


def bigram_nats(
    train: tuple[Symbols, Symbols], held_out: tuple[Symbols, Symbols], levels: Symbols
) -> float:
    """Held-out nats per code of bigrams, smoothed with the unigrams (Witten and Bell 1991).

    p(code | before) = (n(before, code) + t p(code)) / (n(before) + t), where t is how many different codes
    follow `before` in training. Pairs that occur are all that is stored.
    """
    size = len(levels)
    pairs, pair_counts = np.unique(train[1] * size + train[0], return_counts=True)
    contexts = pairs // size
    context_counts = np.bincount(contexts, weights=pair_counts, minlength=size)
    followers = np.bincount(contexts, minlength=size)
    symbols, before = held_out
    held_out_pairs = before * size + symbols
    places = np.minimum(np.searchsorted(pairs, held_out_pairs), len(pairs) - 1)
    counts = np.where(pairs[places] == held_out_pairs, pair_counts[places], 0)
    unigrams = unigram_probabilities(train[0], levels)[symbols]
    t, n = followers[before], context_counts[before]
    smoothed = (counts + t * unigrams) / np.where(n > 0, n + t, 1)
    return float(-np.log(np.where(n > 0, smoothed, unigrams)).mean())


def baselines(
    train: Dataset, held_out: Dataset, level_sizes: tuple[int, ...], ends: bool
) -> dict[str, float]:
    """Held-out nats per code of chance, of unigrams and of bigrams."""
    levels = symbol_levels(level_sizes, ends)
    training, held = (symbols_of(items, level_sizes, ends) for items in (train, held_out))
    return {
        "baseline/chance_nats": sum(map(math.log, level_sizes)) / len(level_sizes),
        "baseline/unigram_nats": unigram_nats(training[0], held[0], levels),
        "baseline/bigram_nats": bigram_nats(training, held, levels),
    }
