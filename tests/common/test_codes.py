"""The codes of a folder: how many of many are counted."""

import pytest
from datasets import Dataset, Features, List, Value

import common.codes
from common.codes import code_sequences


def test_of_many_codes_every_nth_item_is_counted_by_the_length_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(common.codes, "MOST_CODES", 100)
    short_first = Dataset.from_dict({"codes": [[0], *[[i] * 50 for i in range(1, 10)]]})
    assert [len(codes) for codes in code_sequences(short_first)] == [1, 50]  # 451 codes: each fifth
    assert len([*code_sequences(short_first.select([0, 1]))]) == 2
    features = Features(codes=List(Value("uint16"), length=20))
    alike = Dataset.from_dict({"codes": [[i] * 20 for i in range(10)]}, features=features)
    assert [int(codes[0]) for codes in code_sequences(alike)] == [0, 2, 4, 6, 8]
