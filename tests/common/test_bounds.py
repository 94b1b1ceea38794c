"""Every number of every config: what is out of bounds, or no number, is refused in a sentence that names the key."""

import dataclasses
import math
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from common.bounds import Within
from common.config import build, read_values
from pipelines.compare.config import CompareConfig
from pipelines.experiment import image_configs, speech_configs

SCHEMAS = {
    f"{modality}.{section}": schema
    for modality, configs in (("images", image_configs()), ("speech", speech_configs()))
    for section, schema in configs.items()
} | {"compare": CompareConfig}


def numbers(schema: type[Any]) -> Iterator[tuple[str, type, Within]]:
    """The key, the type and the bounds of each number, those of groups with dots."""
    for name, hint in typing.get_type_hints(schema, include_extras=True).items():
        whole = typing.get_origin(hint) in (typing.Annotated, tuple, list, dict)
        options = () if whole else typing.get_args(hint)
        for option in options or (hint,):
            if typing.get_origin(option) is typing.Annotated:
                yield name, *typing.get_args(option)
            elif option is float:
                yield name, float, Within(-math.inf)
            elif dataclasses.is_dataclass(option) and option is (options or (hint,))[0]:
                for key, number, bounds in numbers(option):  # type: ignore[arg-type]
                    yield f"{name}.{key}", number, bounds


def nested(key: str, value: object) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


def required(schema: type[Any]) -> dict[str, Any]:
    """A value for each key that has none."""
    missing = [
        field.name
        for field in dataclasses.fields(schema)
        if dataclasses.MISSING is field.default is field.default_factory
    ]
    return {name: [] if name == "rows" else "x" for name in missing}


@pytest.mark.parametrize("name", SCHEMAS)
def test_numbers_out_of_bounds_are_refused(name: str) -> None:
    given = required(SCHEMAS[name])
    for key, number, bounds in numbers(SCHEMAS[name]):
        wrong: list[object] = [math.nan, math.inf, -math.inf, "x", "", [1], {"a": 1}]
        wrong += [number(bounds.low - 1)] if bounds.low > -math.inf else []
        wrong += [number(bounds.high + 1)] if bounds.high < math.inf else []
        wrong += [number(bounds.low)] if bounds.above else []
        for value in wrong:
            with pytest.raises(ValueError, match=rf"{re.escape(key)}.*: set {re.escape(key)}"):
                build(SCHEMAS[name], given | nested(key, value))


def test_all_numbers_are_looked_at() -> None:
    keys = [key for schema in SCHEMAS.values() for key, *_ in numbers(schema)]
    assert len(keys) > 150 and {"optim.grad_clip", "model.quantizer.beta"} <= set(keys)


def test_a_value_that_is_left_out_by_question_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"prior\.steps=\?\?\? is no value: set prior\.steps"):
        read_values(None, ["prior.steps=???"])
