"""Configs: frozen dataclasses, filled from a YAML file and `key=value` overrides, mistakes told in words."""

import dataclasses
import difflib
import json
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

Config = TypeVar("Config")


def load_config(schema: type[Config], path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """An instance of `schema`: its defaults, then the file (YAML or JSON), then the overrides.

    Raises ValueError, naming the file and the key, for an unknown key, a value of the wrong type, or a
    value that the dataclass itself refuses.
    """
    where = str(path or "defaults")
    if path is not None and not path.is_file():
        raise ValueError(f"{path} is not a file: the first argument is a config of configs/")
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"override {override!r} must have the form key=value")
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(schema),
            OmegaConf.load(path) if path else {},
            OmegaConf.from_dotlist(list(overrides)),
        )
        values = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except ConfigKeyError as error:
        raise ValueError(f"{where}: {_unknown_key(schema, str(error.full_key))}") from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{where}: {error.full_key or 'a key'}: {reason}") from None
    try:
        return build(schema, typing.cast("Mapping[str, Any]", values))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def build(schema: type[Config], values: Mapping[str, Any]) -> Config:
    """The dataclass `schema` of plain containers, nested dataclasses and tuples included."""
    hints = typing.get_type_hints(schema)
    return schema(**{name: _convert(hints[name], value) for name, value in values.items()})


def to_plain(config: Any) -> Any:
    """Dicts, lists, strings and numbers only: what JSON and YAML can hold."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def save_config(config: Any, path: Path) -> None:
    """Writes every value, defaults included, as YAML (or JSON, by the suffix), atomically."""
    plain = to_plain(config)
    if path.suffix == ".json":
        write_text(path, json.dumps(plain, indent=2) + "\n")
    else:
        write_text(path, OmegaConf.to_yaml(OmegaConf.create(plain)))


def write_text(path: Path, text: str) -> None:
    """Writes under another name, then renames: the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_text(text)
    os.replace(partial, path)


def _convert(hint: Any, value: Any) -> Any:
    options = [hint]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = [option for option in typing.get_args(hint) if option is not types.NoneType]
    if value is None:
        return None
    if dataclasses.is_dataclass(options[0]):
        return build(typing.cast("type[Any]", options[0]), value)
    if typing.get_origin(options[0]) is tuple:
        return tuple(value)
    return Path(value) if options[0] is Path else value


def _unknown_key(schema: type[Any], key: str) -> str:
    """Says which keys there are at the place of `key`, and which one was probably meant."""
    *parents, name = key.split(".")
    for parent in parents:
        hint = typing.get_type_hints(schema)[parent]
        nested = [h for h in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(h)]
        schema = typing.cast("type[Any]", nested[0])
    known = [field.name for field in dataclasses.fields(schema)]
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no key {key!r}; {meant}The keys there: {', '.join(known)}"
