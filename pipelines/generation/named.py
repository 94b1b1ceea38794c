"""Labels and speakers as people say them: by name or by number, one or many."""

import difflib
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, TypeVar

Named = int | str
"""A label or a speaker: its number, or its name."""
SHOWN = 8
"""Names that a message lists at the most."""
Value = TypeVar("Value")


def numbers_of(
    given: Named | Sequence[Named] | None, names: Sequence[str], kind: str
) -> list[int] | None:
    """The numbers of labels or speakers, of which `names` are all names in order; None for none.

    Raises ValueError for a name that is not among them, and for what is neither a name nor a whole number.
    """
    if given is None:
        return None
    return [number_of(one, names, kind) for one in listed(given)]


def written_numbers(
    given: Named | Sequence[Named] | None, names: Sequence[str], kind: str
) -> list[int] | None:
    """The numbers of labels or speakers that a recipe gives; a number that is also a name counts as the name.

    Raises ValueError as `numbers_of` does, and for a number out of range. Where all names are numbers, only names are
    accepted.
    """
    if given is None:
        return None
    numeric = bool(names) and all(map(str.isdecimal, names))
    numbers = [
        place_of(str(one), names, kind)
        if numeric or str(one) in names
        else number_of(one, names, kind)
        for one in listed(given)
    ]
    for number in numbers:
        if not 0 <= number < len(names):
            raise ValueError(f"{kind} {number}: there are {len(names)} {kind}s, counted from 0")
    return numbers


def seeds_of(given: int | Sequence[int] | None, count: int) -> list[int]:
    """The seeds of samples: those given, or the first `count` from 0. Raises ValueError where there are none."""
    seeds = listed(range(count) if given is None else given)
    if not seeds:
        raise ValueError("labels or seeds are empty: give one for each sample, or None")
    words = "seed {!r} must be a whole number from 0 to 2**32 - 1"
    wholes = [whole(seed, words.format(seed)) for seed in seeds]
    for seed in wholes:
        if not 0 <= seed < 2**32:
            raise ValueError(words.format(seed))
    return wholes


def listed(given: Any) -> list[Any]:
    """One value or many, of an array or a tensor too, as a list."""
    values = given.tolist() if hasattr(given, "tolist") else given
    return [values] if isinstance(values, int | float | str) else [*values]


def whole(value: Any, words: str) -> int:
    """The value as an int. Raises ValueError(words) for a bool and for what is no whole number."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(words)
    return index(value)


def number_of(given: Named, names: Sequence[str], kind: str) -> int:
    """The number of a label or speaker. Digits that are no name count as a number, unless all names are digits."""
    if not isinstance(given, str):
        return whole(given, f"{kind} {given!r} must be a name or a whole number")
    if given not in names and given.isdecimal() and not all(map(str.isdecimal, names)):
        return int(given)
    return place_of(given, names, kind)


def place_of(name: str, names: Sequence[str], kind: str) -> int:
    """The place of a name among the names. Raises ValueError, with the names, for one that is not there."""
    if name in names:
        return names.index(name)
    if not names:
        raise ValueError(f"{kind} {name!r}: there are no {kind}s here, leave {kind}s out")
    close = difflib.get_close_matches(name, names, n=1)
    meant = f", did you mean {close[0]!r}?" if close else "."
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    raise ValueError(
        f"{kind} {name!r} is no name of a {kind}{meant} There are {len(names)}: {shown}"
    )


def in_turn(values: Sequence[Value] | None, turns: Iterable[int]) -> list[Value] | None:
    """The value for each turn, starting over after the last; None if there are no values."""
    return [values[turn % len(values)] for turn in turns] if values else None
