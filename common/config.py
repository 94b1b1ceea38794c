"""Configs: frozen dataclasses, filled from a YAML file and `key=value` overrides; mistakes become sentences.

A field may be one of several dataclasses, which are told apart by their field `method`:

    class Model:
        quantizer: SimVQConfig | FSQConfig = field(default_factory=SimVQConfig)

`model: {quantizer: {method: fsq, levels: [8, 8]}}` makes an FSQConfig; without `method` it is the first.
"""

import dataclasses
import difflib
import importlib
import json
import math
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from common.bounds import Within
from common.files import write_text

Config = TypeVar("Config")
LARGEST = 2**63 - 1
"""The largest whole number of 64 bits."""
TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}
"""How the type of a value is called in messages."""


def load_config(schema: type[Config], path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """An instance of `schema`: its defaults, then the file (YAML or JSON), then the overrides.

    Raises ValueError, naming the file and the key, for an unknown key, a value of the wrong type, or a
    value that the dataclass itself refuses.
    """
    values = read_values(path, overrides)
    try:
        return build(schema, values)
    except ValueError as error:
        raise ValueError(f"{path or 'defaults'}: {error}") from None


def read_values(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a file, updated by the overrides, as plain dicts and lists. Raises ValueError."""
    from omegaconf import DictConfig, OmegaConf  # not where a quantizer alone is imported
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from common.plain_yaml import load_yaml

    if path is not None and not path.is_file():
        raise ValueError(
            f"{path} is not a file: give a recipe's file, or a name that `simvq recipes` lists"
        )
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"override {override!r} must have the form key=value")
    where = path or "defaults"
    try:
        if path is not None and path.suffix == ".json":  # which may hold escapes that YAML refuses
            said = json.loads(path.read_text(encoding="utf-8"))
        else:
            with path.open(encoding="utf-8") if path else nullcontext("") as text:
                said = load_yaml(text)
        parts: list[Any] = [OmegaConf.create({} if said is None else said), OmegaConf.create()]
        for override in overrides:
            key, _, value = override.partition("=")
            OmegaConf.update(parts[1], key, load_yaml(value))
        left_out = [key for part in parts for key in sorted(map(str, OmegaConf.missing_keys(part)))]
        is_group = isinstance(parts[0], DictConfig)
        merged = OmegaConf.merge(*parts) if is_group and not left_out else parts[0]
        values: Any = OmegaConf.to_container(merged, resolve=not left_out)
    except (OmegaConfBaseException, YAMLError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from None
    if left_out:
        raise ValueError(f"{where}: {left_out[0]}=??? is no value: set {left_out[0]}")
    if not is_group:
        raise ValueError(f"{where} holds no keys with values: `key: value`, one a line")
    refuse_nameless(values, where)
    return typing.cast("dict[str, Any]", values)


def refuse_nameless(values: Any, where: Path | str) -> None:
    """Raises ValueError for a key that is no text."""
    for key in values if isinstance(values, dict) else ():
        if not isinstance(key, str):
            raise ValueError(f"{where}: the key {key!r} is no text: put it in quotes")
    for inner in values.values() if isinstance(values, dict) else values:
        if isinstance(inner, dict | list):
            refuse_nameless(inner, where)


def build(
    schema: type[Config], values: Mapping[str, Any], at: str = "", default: Any = None
) -> Config:
    """An instance of `schema` made from plain containers; `at` stands before its keys in messages.

    A field that `values` lacks comes from `default`, if that is an instance of `schema`, else from the field's default.
    """
    hints = typing.get_type_hints(schema, include_extras=True)
    if unknown := [name for name in values if name not in hints]:
        raise ValueError(_unknown_key(list(hints), f"{at}{unknown[0]}"))
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        own = getattr(default, field.name) if type(default) is schema else _default(field)
        if field.name in values:
            key = f"{at}{field.name}"
            chosen[field.name] = _convert(hints[field.name], values[field.name], key, own)
        elif own is dataclasses.MISSING:
            raise ValueError(f"{at}{field.name} is missing: set it")
        else:
            chosen[field.name] = own
    return schema(**chosen)


def to_plain(config: Any) -> Any:
    """Dicts, lists, strings and numbers only: what JSON and YAML can hold."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def save_config(config: Any, path: Path) -> None:
    """Writes every value, defaults included, as YAML (or JSON, by the suffix), atomically."""
    plain = to_plain(config)
    if path.suffix == ".json":
        write_text(path, json.dumps(plain, indent=2) + "\n")
    else:
        from omegaconf import OmegaConf

        write_text(path, OmegaConf.to_yaml(OmegaConf.create(plain)))


def differences(then: Any, now: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (key, old value, new value) for each key that both have with different values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [key for key in now if key in then]:
            yield from differences(then[key], now[key], f"{at}.{key}".lstrip("."))
    elif then != now:
        yield at, then, now


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _convert(hint: Any, value: Any, key: str, default: Any = None) -> Any:
    """The value as the type that the hint names. Raises ValueError with the key and what it may be."""
    options = _options(hint)
    nested = [option for option in options if dataclasses.is_dataclass(option)]
    if value is None and types.NoneType in options:
        return None
    if type(value) is int and not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{key} has more than 64 bits: set {key} to a smaller number")
    if nested and isinstance(value, Mapping):
        chosen = _chosen(nested, value, key)  # type: ignore[arg-type]
        return build(chosen, value, f"{key}.", default)
    for option in options:
        base, inner = typing.get_origin(option) or option, typing.get_args(option)
        if base is Any or (base is typing.Literal and value in inner):
            return value
        if base in (tuple, list) and _is_list(value, _length(inner)):
            items = [_convert(inner[0], item, f"{key}[{i}]") for i, item in enumerate(value)]
            return base(items)
        if base is dict and isinstance(value, Mapping):
            return {str(k): _convert(inner[1], item, f"{key}.{k}") for k, item in value.items()}
        if base is typing.Annotated and _fits(inner[0], value):
            return _within(inner[1], inner[0](value), key)
        if base is float and _fits(float, value):
            return _within(Within(-math.inf), float(value), key)
        if base is Path and _fits(base, value):
            return Path(os.path.expanduser(str(value)))
        if base in TYPE_NAMES and _fits(base, value):
            return base(value)
    quotes = ""
    if type(value) is bool and str in options:
        quotes = ", and a name such as no, yes, on or off in quotes"
    elif type(value) is float and str in options:
        quotes = ", and a number with a point or an exponent in quotes"
    raise ValueError(
        f"{key}={value!r} must be {' or '.join(map(_type_name, options))}{quotes}: set {key}"
    )


def _fits(base: type, value: Any) -> bool:
    """Whether a value of YAML can stand for a bool, an int, a float, a string or a path."""
    if base is bool or isinstance(value, bool):
        return base is type(value)
    if base in (int, float):  # those of numpy, too
        return isinstance(value, Integral if base is int else Real)
    if base is Path and value == "":
        return False
    # a float is not always written again as it was
    return not isinstance(value, list | Mapping | bool | float) and value is not None


def _length(items: tuple[Any, ...]) -> int | None:
    """How many items a tuple or list of these types has; None for any number."""
    return len(items) if len(items) > 1 and Ellipsis not in items else None


def _is_list(value: Any, length: int | None) -> bool:
    """Whether a value is a list of this length; of any for None."""
    return isinstance(value, list | tuple) and length in (None, len(value))


def _within(bounds: Within, value: float, key: str) -> float:
    """The value. Raises ValueError where it is out of bounds."""
    if value not in bounds:
        words = bounds if math.isfinite(value) else "finite"
        raise ValueError(f"{key}={value} must be {words}: set {key}")
    return value


def _type_name(option: Any) -> str:
    """A type, as a message calls it."""
    if typing.get_origin(option) is typing.Annotated:
        number, bounds = typing.get_args(option)
        return f"{TYPE_NAMES[number]} {bounds}"
    if typing.get_origin(option) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(option)))}"
    if typing.get_origin(option) in (tuple, list):
        length = _length(typing.get_args(option))
        return f"a list of {length}" if length else "a list"
    if dataclasses.is_dataclass(option) or typing.get_origin(option) is dict:
        return "a group of keys"
    return "null" if option is types.NoneType else TYPE_NAMES.get(option, str(option))


def _options(hint: Any) -> list[Any]:
    """The types that a value may have."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return list(typing.get_args(hint)) if union else [hint]


def _chosen(options: list[type[Any]], value: Any, key: str) -> type[Any]:
    """The dataclass whose `method` the value names.

    An option whose `method` has no default is a base for users' configs: then a name with a dot is the import path of
    a class outside the project, whose `config_class` must be its subclass.
    """
    name = value.get("method") if hasattr(value, "get") else None
    if len(options) == 1 or name is None:
        return options[0]
    methods = {option.method: option for option in options if hasattr(option, "method")}
    if isinstance(name, str) and name in methods:
        return methods[name]
    if "." in str(name) and (bases := [o for o in options if not hasattr(o, "method")]):
        custom = getattr(import_object(str(name)), "config_class", None)
        if isinstance(custom, type) and issubclass(custom, tuple(bases)):
            return custom
        raise ValueError(
            f"{key}.method={name!r} has no `config_class` that is a subclass of {bases[0].__name__}"
        )
    raise ValueError(f"{key}.method={name!r} is not one of {', '.join(methods)}: set {key}.method")


def import_object(path: str) -> Any:
    """The class or function `my_module.name`; importing my_module runs its code, also for a config.json of the Hub.

    Only modules on Python's search path are found, never a file of a downloaded model. Raises ValueError for others.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"method={path!r} can't be imported ({error}): it must be a class in a module that Python finds, "
            "in the folder that you run in or in PYTHONPATH"
        ) from error


def _unknown_key(names: list[str], key: str) -> str:
    """Says which keys there are at the place of `key`, and which one was probably meant."""
    close = difflib.get_close_matches(key.split(".")[-1], names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no key {key!r}; {meant}The keys there: {', '.join(names)}"
