"""Every key of every config, and values that it can't have: generated from the dataclasses, so that a new key is tried too."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.bounds import Within
from pipelines.compare.config import CompareConfig, CompareRow
from pipelines.experiment import image_configs, speech_configs

SCHEMAS = {
    f"{modality}.{section}": schema
    for modality, configs in (("images", image_configs()), ("speech", speech_configs()))
    for section, schema in configs.items()
} | {"compare": CompareConfig, "compare row": CompareRow}
HUGE = 10**400
NOT_TEXT: list[object] = [[1], {"a": 1}, None]


def wrong_numbers(number: type, bounds: Within) -> list[object]:
    """No numbers, numbers of another type, and those out of bounds."""
    wrong: list[object] = [math.nan, math.inf, -math.inf, "x", "", [1], {"a": 1}, None, HUGE, True]
    wrong += [number(bounds.low - 1)] if bounds.low > -math.inf else []
    wrong += [number(bounds.high + 1)] if bounds.high < math.inf else []
    wrong += [number(bounds.low)] if bounds.above else []
    wrong += [0.5] if number is int else []
    return wrong


def wrong_values(option: Any) -> list[object]:
    """Values that are not of a type, which may have bounds."""
    base, inner = typing.get_origin(option) or option, typing.get_args(option)
    if base is typing.Annotated:
        return wrong_numbers(*inner)
    if base in (int, float):
        return wrong_numbers(base, Within(-math.inf))
    if base is bool:
        return ["x", "", 3, 0.5, math.nan, [1], {"a": 1}, None]
    if base is str:
        return NOT_TEXT
    if base is Path:
        return ["", *NOT_TEXT]
    if base is typing.Literal:
        return ["no-such-choice", "", -7, math.nan, [1], {"a": 1}, None]
    if base in (tuple, list):
        elements = [[value] for value in wrong_values(inner[0])]
        return ["x", "", 3, math.nan, {"a": 1}, None, *elements]
    if base is dict or dataclasses.is_dataclass(option):
        return ["x", "", 3, math.nan, [1], None]
    return []


def keys(schema: type[Any], at: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Each key, those of groups with dots, and the types that its value may have."""
    for name, hint in typing.get_type_hints(schema, include_extras=True).items():
        if typing.get_origin(hint) is typing.ClassVar:
            continue
        union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        options = list(typing.get_args(hint)) if union else [hint]
        yield f"{at}{name}", options
        groups = [option for option in options if dataclasses.is_dataclass(option)]
        for group in groups[:1]:
            yield from keys(group, f"{at}{name}.")  # type: ignore[arg-type]


def never_right(options: list[Any]) -> list[object]:
    """The wrong values of each type that none of the other types can have."""
    kept = [option for option in options if option not in (types.NoneType, Any)]
    none_is_right = len(kept) < len(options)
    lists = any(typing.get_origin(option) in (tuple, list) for option in kept)
    numbers = any(option in (int, float) for option in kept)
    texts = any(option in (str, Path) for option in kept)
    groups = any(dataclasses.is_dataclass(o) or typing.get_origin(o) is dict for o in kept)
    wrong: list[object] = []
    for option in kept:
        for value in wrong_values(option):
            right = (
                (value is None and none_is_right)
                or (
                    lists
                    and isinstance(value, list)
                    and typing.get_origin(option) not in (tuple, list)
                )
                or (numbers and type(value) is int and value != HUGE)
                or (texts and option not in (str, Path) and not isinstance(value, list | dict))
                or (groups and isinstance(value, dict))
            )
            wrong += [] if right else [value]
    return wrong


def nested(key: str, value: object) -> dict[str, Any]:
    """`a.b` and a value as groups."""
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


def required(schema: type[Any]) -> dict[str, Any]:
    """A value for each key that has none."""
    missing = [
        field
        for field in dataclasses.fields(schema)
        if dataclasses.MISSING is field.default is field.default_factory
    ]
    return {field.name: 4 if field.name == "codebook_size" else "x" for field in missing}
