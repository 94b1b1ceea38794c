"""A part of the training split that is held out: a share of every label's items, the same each time."""

import re
from collections import Counter
from typing import Any

from datasets import Dataset, IterableDataset

SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
"""The key data.validation or data.test, where it is a share of the training split and not a split of its own."""


def share_of(key: str, where: str | None) -> float | None:
    """The share that data.`key` is; None where it names a split or a file, or nothing.

    Raises ValueError for a share that leaves nothing on one side.
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

    Of each label's n items round(share * n) are held out, of several at least one: evenly spaced in the order of
    their speakers, or of the data set. The only item of a label or of a speaker is never held out. Raises ValueError
    for a stream.
    """
    if isinstance(items, IterableDataset):
        raise ValueError(
            "data.validation and data.test can't be a share of a stream: set data.streaming=false, or "
            "each of them to a split"
        )
    labels = values_of(items, label_column)
    speakers = labels if speaker_column is None else values_of(items, speaker_column)
    left = Counter(speakers)
    places: dict[object, list[int]] = {}
    for index in sorted(range(len(items)), key=lambda i: str(speakers[i])):
        places.setdefault(labels[index], []).append(index)
    chosen: set[int] = set()
    for turn, of_label in enumerate(places.values()):  # each label begins with another speaker
        count = max(round(share * len(of_label)), int(len(of_label) > 1))
        for i in range(count):
            start = turn + (2 * i + 1) * len(of_label) // (2 * count)
            for index in (of_label[(start + k) % len(of_label)] for k in range(len(of_label))):
                if index not in chosen and left[speakers[index]] > 1:
                    chosen.add(index)
                    left[speakers[index]] -= 1
                    break
    rest = [index for index in range(len(items)) if index not in chosen]
    return items.select(rest), items.select(sorted(chosen))


def values_of(items: Dataset, name: str | None) -> list[Any]:
    """The values of a column; all the same where there is none."""
    return list(items[name]) if name in items.column_names else [0] * len(items)
