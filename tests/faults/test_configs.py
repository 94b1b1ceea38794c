"""Every key of every config with values that it can't have: each is refused in a sentence that names the key."""

import re

import pytest
from helpers.fields import SCHEMAS, keys, nested, never_right, required
from helpers.verdicts import CHANGED, TOLD, TRACEBACK, WRONG, Tally

from common.config import build, read_values


def told(schema: type, key: str, value: object) -> str:
    """How the loader takes a value."""
    try:
        build(schema, required(schema) | nested(key, value))
    except ValueError as error:
        return TOLD if key.split(".")[-1] in str(error) and "set " in str(error) else CHANGED
    except Exception:
        return TRACEBACK
    return WRONG


@pytest.mark.parametrize("name", SCHEMAS)
def test_values_that_a_key_can_not_have_are_refused(name: str, tally: Tally) -> None:
    for key, options in keys(SCHEMAS[name]):
        for value in never_right(options):
            text = repr(value)[:40]
            tally.take(
                "config value", f"{name}.{key}={text}", told(SCHEMAS[name], key, value), text
            )
    tally.check()


@pytest.mark.parametrize("name", SCHEMAS)
def test_keys_that_do_not_exist_are_refused(name: str, tally: Tally) -> None:
    schema = SCHEMAS[name]
    for key, _ in keys(schema):
        with pytest.raises(ValueError, match=re.escape(f"there is no key '{key}_'")):
            build(schema, required(schema) | nested(f"{key}_", 1))
        tally.take("config key", f"{name}.{key}", TOLD)


def test_all_keys_are_looked_at() -> None:
    found = [key for schema in SCHEMAS.values() for key, _ in keys(schema)]
    assert len(found) > 250 and {"optim.grad_clip", "model.quantizer.beta"} <= set(found)


def test_a_value_that_is_left_out_by_question_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"prior\.steps=\?\?\? is no value: set prior\.steps"):
        read_values(None, ["prior.steps=???"])
