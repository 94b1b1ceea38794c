"""Controls: sequences from tables of frequencies, real items in disorder, and the share of the way."""

from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.codes import write_codes
from helpers.features import as_reference, features

from pipelines.evaluation.controls import (
    CodeTables,
    code_tables,
    control_sequences,
    scrambled_clip,
    scrambled_image,
    share_of_the_way,
)
from pipelines.evaluation.images.extractors import ClassifierExtractor
from pipelines.evaluation.table import Unavailable

COUNT = 4000
GRIDS = [[0, 1, 2, 1], [0, 1, 3, 2], [2, 3, 3, 1]]


def tables(sequences: list[list[int]], folder: Path, levels: int = 1) -> CodeTables:
    write_codes(folder / "train", sequences)
    return code_tables(folder, levels)


def sampled(table: CodeTables, count: int = COUNT) -> dict[str, list[list[int]]]:
    return {
        name: [sequence.tolist() for sequence in sequences]
        for name, sequences in control_sequences(table, count, seed=0)
    }


def shares(values: list[int]) -> dict[int, float]:
    return {value: n / len(values) for value, n in Counter(values).items()}


def test_each_table_has_the_frequencies_of_training(tmp_path: Path) -> None:
    controls = sampled(tables(GRIDS, tmp_path))
    assert {len(s) for sequences in controls.values() for s in sequences} == {4}
    third = [sequence[2] for sequence in controls["i.i.d. codes"]]
    assert shares(third) == pytest.approx(shares(list(chain(*GRIDS))), abs=0.04)
    third = [sequence[2] for sequence in controls["marginals"]]
    assert shares(third) == pytest.approx({2: 1 / 3, 3: 2 / 3}, abs=0.04)
    pairs = [(a, b) for s in controls["bigrams"] for a, b in pairwise(s)]
    assert shares([b for a, b in pairs if a == 3]) == pytest.approx(
        {2: 1 / 3, 3: 1 / 3, 1: 1 / 3}, abs=0.04
    )
    assert shares([s[0] for s in controls["bigrams"]]) == pytest.approx(
        {0: 2 / 3, 2: 1 / 3}, abs=0.04
    )


def test_a_sequence_is_a_function_of_the_seed_and_its_place(tmp_path: Path) -> None:
    table = tables(GRIDS, tmp_path)
    few, many = sampled(table, 5), sampled(table, 50)
    assert all(many[name][:5] == few[name] for name in few)


def test_sequences_end_as_those_of_training_do(tmp_path: Path) -> None:
    controls = sampled(tables([[1, 2], [1, 2, 1, 2, 3], [5]], tmp_path))
    for name in ("i.i.d. codes", "marginals"):
        lengths = [len(sequence) for sequence in controls[name]]
        assert shares(lengths) == pytest.approx({2: 1 / 3, 5: 1 / 3, 1: 1 / 3}, abs=0.04)
    longest = max(map(len, controls["bigrams"]))
    after_two = Counter([*s, -1][s.index(2) + 1] for s in controls["bigrams"] if 2 in s[:4])
    assert longest == 5 and set(after_two) == {1, 3, -1}
    assert all(s == [5] for s in controls["bigrams"] if 5 in s)


def test_levels_keep_their_alphabets_apart(tmp_path: Path) -> None:
    """Even places hold 0 or 1, odd ones 7: a code of one level never stands at the other."""
    controls = sampled(tables([[0, 7, 1, 7], [1, 7, 1, 7]], tmp_path, levels=2), 200)
    for sequences in controls.values():
        codes = np.array(sequences)
        assert set(codes[:, ::2].flat) <= {0, 1} and set(codes[:, 1::2].flat) == {7}


def test_scrambled_items_have_the_same_parts() -> None:
    image = torch.arange(3 * 9 * 9).reshape(3, 9, 9)
    mixed = scrambled_image(image, 3)
    assert sorted(mixed.flatten().tolist()) == list(range(3 * 81)) and not mixed.equal(image)
    assert torch.equal(mixed[:, 8], image[:, 8])

    def blocks(of: torch.Tensor) -> set[tuple[int, ...]]:
        cut = of[0, :8, :8].unfold(0, 2, 2).unfold(1, 2, 2)
        return {tuple(block.flatten().tolist()) for block in cut.flatten(0, 1)}

    assert blocks(mixed) == blocks(image)
    clip = torch.arange(20.0)
    assert sorted(scrambled_clip(clip, 1).tolist()) == clip.tolist()


def test_the_share_of_the_way_is_0_for_bigrams_and_1_for_reconstructions(
    classifier: ClassifierExtractor,
) -> None:
    torch.manual_seed(0)
    real = as_reference(torch.randn(400, 4))
    sets = {
        "reconstruction": features(torch.randn(300, 4) + 0.1),
        "bigrams": features(torch.randn(300, 4) + 1),
    }

    def share(samples: torch.Tensor) -> float | None:
        given = sets | {"samples": features(samples)}
        return share_of_the_way(given, real, classifier, 0).value

    assert share(sets["bigrams"].features) == pytest.approx(0, abs=1e-6)
    assert share(sets["reconstruction"].features) == pytest.approx(1, abs=1e-6)
    halfway = share(torch.randn(500, 4) + 0.5)
    assert halfway is not None and 0.5 < halfway < 0.95
    one = sets | {"samples": features(torch.randn(1, 4))}
    assert "at least two items" in str(share_of_the_way(one, real, classifier, 0).reason)
    swapped = {"reconstruction": sets["bigrams"], "bigrams": sets["reconstruction"]}
    swapped["samples"] = sets["bigrams"]
    assert isinstance(share_of_the_way(swapped, real, classifier, 0), Unavailable)
    del swapped["bigrams"]
    assert "set codes" in str(share_of_the_way(swapped, real, classifier, 0).reason)
