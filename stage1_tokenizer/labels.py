"""What the values of a column of labels or speakers are called, in the order of their indices."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from datasets import ClassLabel, IterableDataset

from stage1_tokenizer.data import DataConfig, Rows
from stage1_tokenizer.split import refuse_unnamed, values_of

MOST_VALUES = 100_000
"""Labels and speakers that are numbers are smaller than this."""


def value_names(
    rows: Rows, train_rows: Callable[[], Rows], config: DataConfig, key: str
) -> tuple[str, ...]:
    """What the values of the column data.`key` are called, in the order of their indices; none for no column.

    Values are sorted, and those of the training split come first, so that their indices are the same in every split.
    Raises ValueError for a stream that does not name them, for names that are not those of the training split, for
    values that can't be indices, and for labels that no training item has.
    """
    column = getattr(config, key)
    if column is None:
        return ()
    feature, train = rows.features[column], train_rows()
    named = given_names(rows, column)
    for number, (name, trained) in enumerate(zip_longest(named, given_names(train, column))):
        if name != trained:
            raise ValueError(
                f"data.{key}={column!r} calls {number} {name!r} in a split, and {trained!r} in the training split: give "
                f"all splits the same names in the same order, or set data.{key} to null for none"
            )
    if named and isinstance(rows, IterableDataset):
        return named
    if isinstance(rows, IterableDataset):
        raise ValueError(
            f"data.{key}={column!r} of a stream must be a ClassLabel, not {feature}: "
            f"set data.streaming=false or data.{key}=null"
        )
    refuse_unnamed(key, column, feature)
    # not by Dataset.unique, which copies all columns of a selection
    values = [[*set(values_of(split, column))] for split in (train, rows)]
    check_values(values, config, key, named)
    if named:
        return named
    return tuple(dict.fromkeys(str(value) for part in values for value in sorted(part)))


def given_names(rows: Rows, column: str) -> tuple[str, ...]:
    """What a column's numbers stand for, where the data set names that; none where its values are names themselves."""
    feature = (rows.features or {}).get(column)
    return tuple(feature.names) if isinstance(feature, ClassLabel) else ()


def check_values(
    values: list[list[Any]], config: DataConfig, key: str, named: Sequence[str]
) -> None:
    """Raises ValueError for nulls, negative and very large numbers, and for labels of the second split alone.

    `named` are the names that numbers stand for, where the data set has them.
    """
    everywhere = {value for part in values for value in part}
    outside = [v for v in everywhere if isinstance(v, int) and not 0 <= v < MOST_VALUES]
    others = everywhere - set(values[0]) if key == "label_column" else set()
    wrong = ""
    if None in everywhere:
        wrong = "empty values"
    elif outside:
        wrong = f"the value {outside[0]:,}"
    elif others:
        one = named[min(others)] if named else min(others)
        wrong = f"{one!r} in another split, which no training item has"
    if wrong:
        raise ValueError(
            f"data.{key}={getattr(config, key)!r} has {wrong}: set data.{key} to a column of names or of numbers from 0 "
            f"to {MOST_VALUES - 1:,}, or to null for none"
        )
