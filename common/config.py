"""Configs: frozen dataclasses, filled from a YAML file and `key=value` overrides, mistakes told in words."""

import dataclasses
import difflib
import importlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from common.files import replaced_file

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
        return build(schema, _values(schema, path, overrides))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{where}: {error.full_key or 'a key'}: {reason}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _values(schema: type[Any], path: Path | None, overrides: Sequence[str]) -> Mapping[str, Any]:
    """Defaults, file and overrides, merged and checked, as plain containers."""
    given: Any = OmegaConf.merge(
        OmegaConf.load(path) if path else {}, OmegaConf.from_dotlist(list(overrides))
    )
    fixed = narrowed(schema, given)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(fixed), given)
    except ConfigKeyError as error:
        raise ValueError(_unknown_key(fixed, str(error.full_key))) from None
    values = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    return typing.cast("Mapping[str, Any]", values)


def narrowed(schema: type[Any], given: Any, at: str = "") -> type[Any]:
    """`schema`, in which a field that may be one of several dataclasses is the one that `given` names.

    Each of them has a field `method` whose default is its name; the first is meant where none is
    given. `given` is what the file says at the place `at`. Raises ValueError for an unknown name.
    """
    hints = typing.get_type_hints(schema)
    changed: list[Any] = []
    for field in dataclasses.fields(schema):
        options = _dataclasses_of(hints[field.name])
        if not options:
            continue
        value = given.get(field.name) if hasattr(given, "get") else None
        chosen = _chosen(options, value, f"{at}{field.name}")
        inner = narrowed(chosen, value, f"{at}{field.name}.")
        if inner is options[0] and len(options) == 1:
            continue
        if field.default_factory is dataclasses.MISSING:
            changed.append((field.name, inner))
        else:
            same = type(field.default_factory()) is inner
            factory = field.default_factory if same else inner
            changed.append((field.name, inner, dataclasses.field(default_factory=factory)))
    if not changed:
        return schema
    return dataclasses.make_dataclass(
        schema.__name__, changed, bases=(schema,), frozen=True, kw_only=True
    )


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
    with replaced_file(path) as partial:
        partial.write_text(text)


def _convert(hint: Any, value: Any) -> Any:
    options = _options(hint)
    if value is None:
        return None
    if nested := _dataclasses_of(hint):
        return build(_chosen(nested, value, ""), value)
    if typing.get_origin(options[0]) is tuple:
        return tuple(_convert(typing.get_args(options[0])[0], item) for item in value)
    return Path(value) if options[0] is Path else value


def _options(hint: Any) -> list[Any]:
    """The types that a value may have, None aside."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [option for option in typing.get_args(hint) if option is not types.NoneType]
    return [hint]


def _dataclasses_of(hint: Any) -> list[type[Any]]:
    return [option for option in _options(hint) if dataclasses.is_dataclass(option)]  # type: ignore[misc]


def _chosen(options: list[type[Any]], value: Any, key: str) -> type[Any]:
    """The dataclass whose `method` the value names.

    Where an option is open to subclasses, a name with a dot is the import path of a class outside the
    project, whose `config_class` is such a subclass.
    """
    name = value.get("method") if hasattr(value, "get") else None
    if len(options) == 1 or name is None:
        return options[0]
    known = {option.method: option for option in options if hasattr(option, "method")}
    if name in known:
        return known[name]
    if "." in str(name) and (bases := [o for o in options if not hasattr(o, "method")]):
        custom = getattr(import_object(str(name)), "config_class", None)
        if isinstance(custom, type) and issubclass(custom, tuple(bases)):
            return custom
        raise ValueError(
            f"{key}.method={name!r} has no `config_class` that is a subclass of {bases[0].__name__}"
        )
    raise ValueError(f"{key}.method={name!r} is not one of {', '.join(known)}: set {key}.method")


def import_object(path: str) -> Any:
    """The class or function `my_module.name`; imports my_module, which runs its code.

    A config that names it is read when a command or `from_pretrained` reads the file, also a config.json from
    the Hub. Only modules that Python finds on this machine are imported, in its search path: nothing is
    downloaded, and a file in a model's folder is not found unless that folder is in the search path.
    Raises ValueError where there is no such module, or no such name in it.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"method={path!r} can't be imported ({error}): it must be a class in a module that Python finds, "
            "in the folder that you run in (python -m pipelines ...) or in PYTHONPATH"
        ) from error


def _unknown_key(schema: type[Any], key: str) -> str:
    """Says which keys there are at the place of `key`, and which one was probably meant."""
    *parents, name = key.split(".")
    for parent in parents:
        hint = typing.get_type_hints(schema)[parent]
        schema = _dataclasses_of(hint)[0]
    known = [field.name for field in dataclasses.fields(schema)]
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no key {key!r}; {meant}The keys there: {', '.join(known)}"
