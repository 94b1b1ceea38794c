"""A validation part of a data set that has none: a share of every label's items, the same each time."""

import re
from collections import Counter

from datasets import Dataset, IterableDataset

SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
"""The key data.validation, where it names a share of the training split and not a split of its own."""


def held_out_share(validation: str) -> float | None:
    """The share that data.validation names; None where it names a split or a file.

    Raises ValueError for a share that leaves nothing on one side.
    """
    found = SHARE.fullmatch(validation)
    if found is None:
        return None
    share = float(found[1]) / 100
    if not 0 < share < 1:
        raise ValueError(
            f"validation={validation!r} must lie between 0% and 100%: set data.validation"
        )
    return share


def part_of(
    items: Dataset | IterableDataset,
    split: str,
    share: float,
    label_column: str | None,
    speaker_column: str | None = None,
) -> Dataset:
    """The items of the split `train` or `validation` of a data set without one.

    Of each label's n items round(share * n) are held out, of several at least one: evenly spaced in the order of
    their speakers, or of the data set. The only item of a label or of a speaker is never held out. Raises ValueError
    for a stream.
    """
    if isinstance(items, IterableDataset):
        raise ValueError(
            "data.validation can't be a share of a stream: set data.streaming=false, or "
            "data.validation to a split"
        )
    labels = column(items, label_column)
    speakers = labels if speaker_column is None else column(items, speaker_column)
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
    held_out = split != "train"
    return items.select([i for i in range(len(items)) if (i in chosen) == held_out])


def column(items: Dataset, name: str | None) -> list[object]:
    """The values of a column; all the same where there is none."""
    return list(items[name]) if name in items.column_names else [0] * len(items)
