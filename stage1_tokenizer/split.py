"""A part of the training split that is held out: a share of every label's items, the same each time."""

import re
from bisect import bisect_left
from collections import Counter
from typing import Any

from datasets import ClassLabel, Dataset, IterableDataset, Value

SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
"""Matches a value of data.validation or data.test that is a share of the training split, such as `10%`."""


def share_of(key: str, where: str | None) -> float | None:
    """The share of the training split that `where`, the value of data.`key`, asks for; None if it is not a share.

    Raises ValueError unless the share lies between 0% and 100%.
    """
    match = SHARE.fullmatch(where or "")
    if match is None:
        return None
    share = float(match[1]) / 100
    if not 0 < share < 1:
        raise ValueError(f"{key}={where!r} must lie between 0% and 100%: set data.{key}")
    return share


def hold_out(
    items: Dataset | IterableDataset,
    share: float,
    label_column: str | None,
    speaker_column: str | None = None,
) -> tuple[Dataset, Dataset]:
    """The items that stay, and those that are held out.

    Of each label's n items round(share * n) are held out, and at least one if n > 1. They are evenly spaced in the
    order of speakers or, without speakers, of the data set. The last item of a label or speaker always stays.
    Raises ValueError for a stream, and for columns that `refuse_unnamed` refuses.
    """
    if isinstance(items, IterableDataset):
        raise ValueError(
            "data.validation and data.test can't be a share of a stream: set data.streaming=false, or "
            "each of them to a split"
        )
    for key, column in (("label_column", label_column), ("speaker_column", speaker_column)):
        if column is not None and column in items.column_names:
            refuse_unnamed(key, column, items.features[column])
    labels = values_of(items, label_column)
    speakers = labels if speaker_column is None else values_of(items, speaker_column)
    left = Counter(speakers)
    places: dict[object, list[int]] = {}
    for index in sorted(range(len(items)), key=lambda i: str(speakers[i])):
        places.setdefault(labels[index], []).append(index)
    chosen: set[int] = set()
    for turn, of_label in enumerate(places.values()):  # each label begins with another speaker
        count = min(max(round(share * len(of_label)), 1), len(of_label) - 1)
        free = [place for place, index in enumerate(of_label) if left[speakers[index]] > 1]
        for i in range(count):
            start = turn + (2 * i + 1) * len(of_label) // (2 * count)
            first = bisect_left(free, start % len(of_label))
            for index in (of_label[free[(first + k) % len(free)]] for k in range(len(free))):
                if index not in chosen and left[speakers[index]] > 1:
                    chosen.add(index)
                    left[speakers[index]] -= 1
                    break
    rest = [index for index in range(len(items)) if index not in chosen]
    return items.select(rest), items.select(sorted(chosen))


def refuse_unnamed(key: str, column: str, feature: Any) -> None:
    """Raises ValueError for a column data.`key` whose values are neither names nor whole numbers."""
    named = isinstance(feature, ClassLabel | Value)
    if not named or feature.dtype.startswith(("float", "double")):
        raise ValueError(
            f"data.{key}={column!r} has values of the type {feature}: set data.{key} to a column of names or of "
            "numbers from 0, or to null for none"
        )


def values_of(items: Dataset, name: str | None) -> list[Any]:
    """The values of a column; all the same where there is none."""
    return list(items[name]) if name in items.column_names else [0] * len(items)
