"""The keys of a section, read from the source of its dataclasses: torch is not imported, so --help answers at once."""

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import read_values
from pipelines import experiment
from pipelines.experiment import CONFIGS, SECTIONS, with_what_follows

ROOT = Path(__file__).parents[1]
Place = tuple[ast.AST, Path]
"""What defines a name, and the file that it stands in."""


@dataclass(frozen=True)
class Key:
    """One key of a config."""

    name: str
    kind: str
    default: str
    meaning: str
    """The first sentence of its docstring."""


@dataclass(frozen=True)
class Field:
    """One field of a dataclass, as its source has it."""

    annotation: ast.expr
    default: ast.expr | None
    doc: str
    path: Path


def section_help(section: str, words: Sequence[str]) -> str:
    """The keys of a section, for the file and the overrides among `words`, or for images."""
    values = given(words)
    modality = values.get("modality", "images")
    classes = section_classes(modality)
    cls, path = classes[section]
    follows = with_what_follows(Path("RUN_DIR"), {name: {} for name in SECTIONS})[section][1]
    hidden = {"modality", "data"}
    keys = [
        Key(f"{section}.{key.name}", key.kind, str(follows.get(key.name, key.default)), key.meaning)
        for key in keys_of(cls, path, values.get(section) or {})
        if key.name.split(".")[0] not in hidden
    ]
    others = [name for name in CONFIGS if name != modality]
    return "\n".join(
        [
            first_sentence(ast.get_docstring(cls) or ""),
            f"Section {section} of a file with modality: {modality} (for others: --help modality={others[0]}, or --help FILE).",
            "",
            *table(keys),
            *([] if "data" not in fields_of(cls, path) else ["data.*: simvq run --help"]),
        ]
    )


def file_help(words: Sequence[str]) -> str:
    """The keys of a file that are in no section."""
    values = given(words)
    modality = values.get("modality", "images")
    cls, path = section_classes(modality)["data"]
    data = [
        Key(f"data.{key.name}", key.kind, key.default, key.meaning)
        for key in keys_of(cls, path, values.get("data") or {})
    ]
    top = [
        Key(
            "run_dir",
            "Path",
            "required",
            "Where each section's results are, in a folder of its name.",
        ),
        Key("modality", " | ".join(CONFIGS), "images", "What the items are."),
        Key(
            "allow_failed",
            "bool",
            "False",
            "Go on after a training that ends no better than a constant.",
        ),
    ]
    return "\n".join([f"Keys of a file with modality: {modality}.", "", *table([*top, *data])])


def class_help(name: str, path: Path) -> str:
    """The keys of a dataclass in a file of its own."""
    cls = find(name, path)[0]
    assert isinstance(cls, ast.ClassDef)
    return "\n".join([ast.get_docstring(cls) or "", "", *table(list(keys_of(cls, path, {})))])


def given(words: Sequence[str]) -> dict[str, Any]:
    """What the file and the overrides among the words of a command say."""
    files = [Path(word) for word in words if "=" not in word]
    return read_values(files[0] if files else None, [word for word in words if "=" in word])


def table(keys: Sequence[Key]) -> list[str]:
    """A line for each key: name, type, default, meaning."""
    left = [f"{key.name}  {key.kind} = {key.default}" for key in keys]
    width = min(max(map(len, left)), 56)
    return [
        f"  {start:<{width}}  {key.meaning}".rstrip() for start, key in zip(left, keys, strict=True)
    ]


def section_classes(modality: str) -> dict[str, tuple[ast.ClassDef, Path]]:
    """The dataclass of each section, as `pipelines/experiment.py` names it."""
    path = Path(experiment.__file__)
    if modality not in CONFIGS:
        raise ValueError(f"modality={modality} is not one of {', '.join(CONFIGS)}: set modality")
    name = CONFIGS[modality].__name__
    (function,) = [n for n in tree(path).body if isinstance(n, ast.FunctionDef) and n.name == name]
    (result,) = [n.value for n in function.body if isinstance(n, ast.Return)]
    assert isinstance(result, ast.Dict)
    found = {}
    for key, value in zip(result.keys, result.values, strict=True):
        assert isinstance(key, ast.Constant) and isinstance(value, ast.Name)
        cls, file = find(value.id, path, function.body)
        assert isinstance(cls, ast.ClassDef)
        found[str(key.value)] = cls, file
    return found


def keys_of(
    cls: ast.ClassDef, path: Path, values: Mapping[str, Any], defaults: Mapping[str, ast.expr] = {}
) -> Iterator[Key]:
    """The keys of a dataclass and, with dots, of those it holds; `defaults` are what its holder gives it."""
    for name, field in fields_of(cls, path).items():
        default = defaults.get(name, field.default)
        parts = dataclasses_of(field.annotation, field.path)
        if not parts:
            kind = kind_of(field.annotation, field.path)
            yield Key(name, kind, default_of(default), first_sentence(field.doc))
            continue
        inner = values.get(name) or {}
        (part, file), options = chosen(parts, inner, default)
        for key in keys_of(part, file, inner, options):
            if key.name == "method" and len(parts) > 1:
                methods = ", ".join(filter(None, (method_of(*one) for one in parts)))
                note = f"One of {methods}; --help with this key shows another's keys"
                key = Key("method", "str", method_of(part, file), note)
            yield Key(f"{name}.{key.name}", key.kind, key.default, key.meaning)


def chosen(
    parts: list[tuple[ast.ClassDef, Path]], values: Mapping[str, Any], default: ast.expr | None
) -> tuple[tuple[ast.ClassDef, Path], dict[str, ast.expr]]:
    """The dataclass that a field holds, and what its default sets: `lambda: OptimConfig(lr=4e-4)` sets lr."""
    call = default.keywords[0].value if isinstance(default, ast.Call) and default.keywords else None
    call = call.body if isinstance(call, ast.Lambda) else call
    options = {k.arg: k.value for k in call.keywords if k.arg} if isinstance(call, ast.Call) else {}
    if "method" not in values:
        return parts[0], options
    named = [part for part in parts if method_of(*part) == values["method"]]
    if not named:
        known = ", ".join(filter(None, (method_of(*part) for part in parts)))
        raise ValueError(f"method={values['method']} is not one of {known}: set method")
    return named[0], {}


def method_of(cls: ast.ClassDef, path: Path) -> str:
    """The name by which a dataclass is chosen; empty for one that stands for classes of the user's own."""
    method = fields_of(cls, path).get("method")
    return default_of(method.default) if method else ""


def fields_of(cls: ast.ClassDef, path: Path) -> dict[str, Field]:
    """The fields of a dataclass, those of its bases first."""
    found: dict[str, Field] = {}
    for base in cls.bases:
        node, file = find(ast.unparse(base), path)
        if isinstance(node, ast.ClassDef):
            found |= fields_of(node, file)
    for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            doc = str(after.value.value) if told else ""  # type: ignore[union-attr]
            found[node.target.id] = Field(node.annotation, node.value, doc, path)
    return found


def dataclasses_of(annotation: ast.expr, path: Path) -> list[tuple[ast.ClassDef, Path]]:
    """The dataclasses that a type names, one or several."""
    if isinstance(annotation, ast.BinOp):
        return dataclasses_of(annotation.left, path) + dataclasses_of(annotation.right, path)
    node, file = find(ast.unparse(annotation), path)
    if isinstance(node, ast.ClassDef):
        return [(node, file)]
    return dataclasses_of(node, file) if isinstance(node, ast.BinOp) else []


def kind_of(annotation: ast.expr, path: Path) -> str:
    """A type in words: the values of a Literal, else its name."""
    node, file = find(ast.unparse(annotation), path)
    if isinstance(node, ast.Subscript):
        return kind_of(node, file)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        return " | ".join(
            part.strip(" '\"") for part in ast.unparse(annotation.slice).strip("()").split(",")
        )
    return ast.unparse(annotation).replace(" | None", " or null")


def default_of(node: ast.expr | None) -> str:
    """A default as YAML has it."""
    if node is None:
        return "required"
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path":
        node = node.args[0]
    text = ast.unparse(node).strip("'").replace("(", "[").replace(",)", "]").replace(")", "]")
    return {
        "None": "null",
        "True": "true",
        "False": "false",
        "field[default_factory=dict]": "{}",
    }.get(text, text)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join(text.split()).partition(". ")[0].removesuffix(".")


def find(name: str, path: Path, body: Sequence[ast.stmt] | None = None) -> Place:
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
