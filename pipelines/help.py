"""The keys of a section, read from the source of its dataclasses: torch is not imported, so --help answers at once."""

import ast
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from common import bounds
from common.config import read_values
from pipelines import experiment
from pipelines.recipe_list import config_path

ROOT = Path(__file__).parents[1]
FILE = """Keys of a file with modality: {modality}.

  run_dir  Path = required             Where each section's results are, in a folder of its name
  modality  {modalities} = images   What the items are
  allow_failed  bool = false           Go on after a training whose result is of no use
"""


class Key(NamedTuple):
    """One key of a config; `meaning` is the first sentence of its docstring."""

    name: str
    type: str
    default: str
    meaning: str


class Field(NamedTuple):
    """One field of a dataclass as its source has it, and the file that it stands in."""

    annotation: ast.expr
    default: ast.expr | None
    doc: str
    path: Path


class Class(NamedTuple):
    """A dataclass as its source has it."""

    node: ast.ClassDef
    path: Path


def section_help(section: str, arguments: Sequence[str]) -> str:
    """The keys of a section, for the file and the overrides among `arguments`, or for images."""
    modality, values = modality_and_values(arguments)
    cls = section_classes(modality)[section]
    empty: dict[str, dict[str, Any]] = {name: {} for name in experiment.SECTIONS}
    defaults = experiment.with_default_paths(Path("RUN_DIR"), empty)[section][1]
    keys = [
        key._replace(name=f"{section}.{key.name}", default=str(defaults.get(key.name, key.default)))
        for key in keys_of(cls, group(values, section))
        if key.name.split(".")[0] not in ("modality", "data")
    ]
    others = next(name for name in experiment.CONFIGS if name != modality)
    heading = (
        f"Section {section}, modality: {modality}; for others: --help modality={others} "
        "or --help FILE"
    )
    data = ["  data.*: see simvq run --help"] if "data" in fields_of(cls) else []
    return "\n".join(
        [first_sentence(ast.get_docstring(cls.node)), heading, "", *table(keys), *data]
    )


def file_help(arguments: Sequence[str]) -> str:
    """The keys of a file that are in no section."""
    modality, values = modality_and_values(arguments)
    keys = keys_of(section_classes(modality)["data"], group(values, "data"))
    lines = table([key._replace(name=f"data.{key.name}") for key in keys])
    top = FILE.format(modality=modality, modalities=" | ".join(experiment.CONFIGS))
    return top + "\n".join(lines)


def class_help(name: str, path: Path) -> str:
    """The keys of a dataclass in a file of its own."""
    node, path = find(name, path)
    assert isinstance(node, ast.ClassDef)
    keys = list(keys_of(Class(node, path), {}))
    return "\n".join([ast.get_docstring(node) or "", "", *table(keys)])


def modality_and_values(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The modality, and all that the file and the overrides among a command's arguments say."""
    files = [config_path(argument) for argument in arguments if "=" not in argument]
    values = read_values(
        next(iter(files), None), [argument for argument in arguments if "=" in argument]
    )
    return str(values.get("modality", "images")), values


def group(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The keys of a group; none where it is not there. Raises ValueError for another value."""
    inner = values.get(name) or {}
    if not isinstance(inner, Mapping):
        raise ValueError(f"{name}={inner!r} must be a group of keys: set {name}.KEY")
    return inner


def table(keys: Sequence[Key]) -> list[str]:
    """A line for each key: name, type, default, meaning."""
    left = [f"{key.name}  {key.type} = {key.default}" for key in keys]
    width = min(max(map(len, left)), 56)
    return [f"  {a:<{width}}  {key.meaning}".rstrip() for a, key in zip(left, keys, strict=True)]


def section_classes(modality: str) -> dict[str, Class]:
    """The dataclass of each section, as the function in `pipelines/experiment.py` returns it."""
    path = Path(experiment.__file__)
    if modality not in experiment.CONFIGS:
        modalities = ", ".join(experiment.CONFIGS)
        raise ValueError(f"modality={modality} is not one of {modalities}: set modality")
    function = next(
        node
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef) and node.name == experiment.CONFIGS[modality].__name__
    )
    result = function.body[-1]
    assert isinstance(result, ast.Return) and isinstance(result.value, ast.Dict)
    classes = {}
    for key, value in zip(result.value.keys, result.value.values, strict=True):
        node, file = find(ast.unparse(value), path, function.body)
        assert isinstance(key, ast.Constant) and isinstance(node, ast.ClassDef)
        classes[str(key.value)] = Class(node, file)
    return classes


def keys_of(
    cls: Class, values: Mapping[str, Any], defaults: Mapping[str, ast.expr] = {}
) -> Iterator[Key]:
    """The keys of a dataclass and, with dots, of those it holds; `defaults` are what its holder gives it."""
    for name, field in fields_of(cls).items():
        default = defaults.get(name, field.default)
        parts = dataclasses_of(field.annotation, field.path)
        if not parts:
            type_ = type_of(field.annotation, field.path)
            yield Key(name, type_, default_of(default), first_sentence(field.doc))
            continue
        inner = group(values, name)
        methods = {method_of(part): part for part in parts}
        method = inner.get("method", method_of(parts[0]))
        custom = methods.pop("required", None)  # without a default: the base of users' own configs
        names = ", ".join([*filter(None, methods), *(["an import path"] if custom else [])])
        part = custom if custom and "." in str(method) else methods.get(str(method))
        if part is None:
            raise ValueError(f"method={method} is not one of {names}: set method")
        options = {} if "method" in inner else keywords(default)
        for key in keys_of(part, inner, options):
            if key.name == "method" and len(parts) > 1:
                note = f"One of {names}; --help with this key shows another's keys"
                key = Key("method", "str", method, note)
            yield key._replace(name=f"{name}.{key.name}")


def keywords(default: ast.expr | None) -> dict[str, ast.expr]:
    """What a field's default sets: `field(default_factory=lambda: OptimConfig(lr=4e-4))` sets lr."""
    factory = default.keywords[0].value if isinstance(default, ast.Call) else None
    call = factory.body if isinstance(factory, ast.Lambda) else None
    return {k.arg: k.value for k in call.keywords if k.arg} if isinstance(call, ast.Call) else {}


def method_of(cls: Class) -> str:
    """The name by which a dataclass is chosen; empty for one that has none."""
    method = fields_of(cls).get("method")
    return default_of(method.default) if method else ""


def fields_of(cls: Class) -> dict[str, Field]:
    """The fields of a dataclass, those of its bases first."""
    fields: dict[str, Field] = {}
    for base in cls.node.bases:
        node, file = find(ast.unparse(base), cls.path)
        if isinstance(node, ast.ClassDef):
            fields |= fields_of(Class(node, file))
    body = cls.node.body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            doc = ast.literal_eval(after.value) if documented else ""  # type: ignore[attr-defined]
            name = ast.unparse(node.target)
            fields[name] = Field(node.annotation, node.value, doc, cls.path)
    return fields


def dataclasses_of(annotation: ast.AST, path: Path) -> list[Class]:
    """The dataclasses that a type names, one or several."""
    if isinstance(annotation, ast.BinOp):
        return dataclasses_of(annotation.left, path) + dataclasses_of(annotation.right, path)
    node, file = find(ast.unparse(annotation), path)
    if isinstance(node, ast.ClassDef):
        return [Class(node, file)]
    return dataclasses_of(node, file) if isinstance(node, ast.BinOp) else []


def type_of(annotation: ast.AST, path: Path) -> str:
    """A type as text: the values of a Literal, else its name."""
    if isinstance(annotation, ast.BinOp):
        return f"{type_of(annotation.left, path)} or {type_of(annotation.right, path)}"
    if isinstance(annotation, ast.Subscript):
        return subscripted(annotation, path)
    text = ast.unparse(annotation)
    if bounded := getattr(bounds, text, None):
        return in_symbols(*get_args(bounded))
    node, file = find(text, path)
    if isinstance(node, ast.Subscript):
        return type_of(node, file)
    return {"None": "null"}.get(text, text)


def subscripted(annotation: ast.Subscript, path: Path) -> str:
    """The text of a Literal, a tuple, or a number with bounds."""
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    match ast.unparse(annotation.value), inner:
        case "Literal", _:
            return " | ".join(str(ast.literal_eval(each)) for each in inner)
        case "Annotated", [number, ast.Call(args=args, keywords=keywords)]:
            named = {each.arg or "": ast.literal_eval(each.value) for each in keywords}
            within = bounds.Within(*map(ast.literal_eval, args), **named)
            return in_symbols({"int": int, "float": float}[ast.unparse(number)], within)
        case "tuple", [each, ast.Constant(value=last)] if last is ...:
            text = type_of(each, path)
            return f"list of ({text})" if " or " in text else f"list of {text}"
        case "tuple", _:
            return f"{len(inner)} of {type_of(inner[0], path)}"
    return ast.unparse(annotation)


def in_symbols(number: type, within: bounds.Within) -> str:
    """A number's type and bounds, such as `int >= 1`."""
    if within.high < math.inf and within.above:
        return f"{number.__name__} > {within.low:g} and <= {within.high:g}"
    if within.high < math.inf:
        return f"{number.__name__} in {within.low:g}..{within.high:g}"
    return f"{number.__name__} {'>' if within.above else '>='} {within.low:g}"


def default_of(node: ast.expr | None) -> str:
    """A default as YAML has it."""
    if node is None:
        return "required"
    if isinstance(node, ast.Call):  # Path("runs"), or field(default_factory=dict)
        return ast.unparse(node.args[0]).strip("'") if node.args else "{}"
    text = ast.unparse(node).strip("'").replace(",)", ")").replace("(", "[").replace(")", "]")
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join((text or "").split()).partition(". ")[0].removesuffix(".")


def find(name: str, path: Path, body: Sequence[ast.stmt] | None = None) -> tuple[ast.AST, Path]:
    """What defines a name that a file uses, in that file or in one that it imports from; else nothing."""
    for node in tree(path).body if body is None else body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, path
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value, path
        if isinstance(node, ast.ImportFrom) and node.module:
            file = ROOT / node.module.replace(".", "/")
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
            for alias in node.names:
                if (alias.asname or alias.name) == name and file.is_file():
                    return find(alias.name, file)
    return ast.Pass(), path


@functools.cache
def tree(path: Path) -> ast.Module:
    """The source of a file."""
    return ast.parse(path.read_text())
