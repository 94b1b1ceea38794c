"""The shape of the project: imports run one way, files stay short, every config key is read, YAMLs load."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from common.config import load_config, save_config
from pipelines.cli import VERBS, Verb, config_class, config_classes

ROOT = Path(__file__).parents[1]
LAYERS = ("common", "stage1_tokenizer", "stage2_prior", "pipelines", "benchmarks")
FILES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
YAMLS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.stem != "thresholds")


def from_root(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=from_root)
def test_imports_run_one_way_and_files_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    above = LAYERS[LAYERS.index(path.relative_to(ROOT).parts[0]) + 1 :]
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & set(above), f"line {node.lineno}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", FILES, ids=from_root)
def test_functions_fit_a_screen(path: Path) -> None:
    loops = {"train_tokenizer": 80, "train_prior": 80}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno
            assert lines <= loops.get(node.name, 45), f"{node.name} has {lines} lines"


def verb_of(path: Path) -> Verb:
    """What a config file is for: a folder holds a file per verb, but `compare` one per study."""
    return VERBS["compare" if path.parent.name == "compare" else path.stem]


@pytest.mark.parametrize("path", YAMLS, ids=from_root)
def test_every_yaml_loads_and_round_trips(path: Path, tmp_path: Path) -> None:
    config = load_config(config_class(verb_of(path), path, []), path)
    save_config(config, tmp_path / path.name)
    assert load_config(type(config), tmp_path / path.name) == config


MISTAKES = {
    "no_such_key=1": "there is no key 'no_such_key'",
    "data.sorce=x": "did you mean 'source'",
    "batch_size=many": "batch_size",
}


@pytest.mark.parametrize("path", YAMLS, ids=from_root)
def test_mistakes_in_every_yaml_are_told_in_words(path: Path) -> None:
    schema = config_class(verb_of(path), path, [])
    keys = {*get_type_hints(schema), "no_such_key"}
    for mistake in [m for m in MISTAKES if re.split(r"[.=]", m)[0] in keys]:
        with pytest.raises(ValueError) as caught:
            load_config(schema, path, [mistake])
        assert MISTAKES[mistake] in str(caught.value) and "\n" not in str(caught.value)


def nested(schema: type[Any]) -> list[type[Any]]:
    parts = [schema]
    for part in parts:
        for hint in get_type_hints(part).values():
            found = [h for h in (hint, *get_args(hint)) if dataclasses.is_dataclass(h)]
            parts += [h for h in found if h not in parts]
    return parts


def test_every_config_field_is_read_somewhere() -> None:
    text = "\n".join(path.read_text() for path in FILES)
    schemas = [schema for verb in VERBS.values() for schema in config_classes(verb).values()]
    for part in {part for schema in schemas for part in nested(schema)}:
        for field in dataclasses.fields(part):
            read = f".{field.name}" in text or f'"{field.name}"' in text
            assert read, f"{part.__name__}.{field.name}"
