"""Which items a report shows."""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor


def varied(groups: Sequence[tuple[int, ...]], count: int) -> list[int]:
    """The places of `count` items whose groups differ most, such as (label, speaker); all of fewer.

    Each is the first of those whose groups have been chosen least often by then.
    """
    chosen: list[int] = []
    seen: Counter[tuple[int, int]] = Counter()
    left = list(range(len(groups)))
    while left and len(chosen) < count:
        place = min(left, key=lambda i: sum(seen[pair] for pair in enumerate(groups[i])))
        left.remove(place)
        chosen.append(place)
        seen.update(enumerate(groups[place]))
    return chosen


class Examples:
    """Originals and their reconstructions of as many classes as are shown, kept from batches that come one by one."""

    def __init__(self, shown: int) -> None:
        self.shown = shown
        self.pairs: dict[int, list[tuple[Tensor, Tensor]]] = {}
        """By label, at most `shown` of each of at most `shown` labels."""

    def add(self, originals: Tensor, rebuilt: Tensor, labels: Tensor) -> None:
        """Keeps what of a batch may be shown."""
        for label, *pair in zip(labels.tolist(), originals, rebuilt, strict=True):
            if label in self.pairs or len(self.pairs) < self.shown:
                kept = self.pairs.setdefault(label, [])
                if len(kept) < self.shown:
                    kept.append((pair[0], pair[1].cpu()))

    def chosen(self) -> list[tuple[Tensor, Tensor]]:
        """The first of each label, then the second, until enough are there; sorted by label."""
        items = [(label, pair) for label in sorted(self.pairs) for pair in self.pairs[label]]
        places = varied([(label,) for label, _ in items], self.shown)
        return [items[place][1] for place in sorted(places)]
