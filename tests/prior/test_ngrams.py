"""The prior's trivial baselines: tables against counting by hand, and against what is known."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from stage2_prior.ngrams import baselines


def items(codes: list[list[int]]) -> Dataset:
    return Dataset.from_dict({"codes": codes})


def by_hand(train: list[list[int]], held_out: list[list[int]], k: int, ends: bool) -> float:
    """Witten and Bell's bigrams, one count after another."""
    end, pairs, single = k, Counter(), Counter()
    for row in train:
        row = [*row, end] if ends else row
        single.update(row)
        pairs.update(itertools.pairwise([-1, *row]))
    kinds = k + 1 if ends else k
    total = sum(single.values()) + kinds
    nats = []
    for row in held_out:
        row = [*row, end] if ends else row
        for before, code in itertools.pairwise([-1, *row]):
            followers = {b: n for (a, b), n in pairs.items() if a == before}
            share = (single[code] + 1) / total
            if followers:
                t, n = len(followers), sum(followers.values())
                share = (followers.get(code, 0) + t * share) / (n + t)
            nats.append(-math.log(share))
    return float(np.mean(nats))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(1, 8), st.booleans(), st.integers(0, 999))
def test_bigrams_equal_counting_by_hand(k: int, n: int, ends: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 7, 2 * n) if ends else np.full(2 * n, 5)
    codes = [random.integers(0, k, length).tolist() for length in lengths]
    found = baselines(items(codes[:n]), items(codes[n:]), (k,), ends)
    assert found["baseline/bigram_nats"] == pytest.approx(by_hand(codes[:n], codes[n:], k, ends))
    assert found["baseline/chance_nats"] == pytest.approx(math.log(k))


def test_known_sources_give_their_known_entropies() -> None:
    random = np.random.default_rng(0)
    uniform = items(random.integers(0, 8, (4000, 16)).tolist())
    found = baselines(uniform, uniform, (8,), False)
    assert found["baseline/unigram_nats"] == pytest.approx(math.log(8), abs=1e-3)
    assert found["baseline/bigram_nats"] == pytest.approx(math.log(8), abs=1e-2)
    counting = items([[(i + j) % 8 for j in range(64)] for i in range(8)] * 20)
    found = baselines(counting, counting, (8,), False)
    assert found["baseline/unigram_nats"] == pytest.approx(math.log(8), abs=1e-3)
    assert found["baseline/bigram_nats"] < 0.05


def test_levels_have_alphabets_of_their_own() -> None:
    """A position's second code is known, its first one of four: a mean of ln 4 and nothing."""
    random = np.random.default_rng(1)
    codes = items(
        [[c for first in random.integers(0, 4, 32) for c in (first, 1)] for _ in range(500)]
    )
    found = baselines(codes, codes, (4, 2), False)
    assert found["baseline/chance_nats"] == pytest.approx((math.log(4) + math.log(2)) / 2)
    assert found["baseline/unigram_nats"] == pytest.approx(math.log(4) / 2, abs=1e-3)
