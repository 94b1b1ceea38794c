"""The shape of the project: imports run one way, files stay short, every config key is read, YAMLs load."""

import ast
import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from helpers.pages import ROOT, from_root

from common.config import load_config, save_config
from pipelines.compare.config import CompareConfig
from pipelines.experiment import CONFIGS, SECTIONS, read_experiment

LAYERS = ("common", "stage1_tokenizer", "stage2_prior", "pipelines", "simvq", "benchmarks")
FILES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
EXPERIMENTS = sorted((ROOT / "configs").glob("*.yaml"))
STUDIES = sorted((ROOT / "configs" / "compare").glob("*.yaml"))


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
            assert lines <= loops.get(node.name, 40), f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=from_root)
def test_every_experiment_loads_and_its_configs_round_trip(path: Path, tmp_path: Path) -> None:
    experiment = read_experiment(path)
    assert {*SECTIONS} - {"classifier"} <= experiment.configs.keys()
    for name, config in experiment.configs.items():
        save_config(config, tmp_path / f"{name}.yaml")
        assert load_config(type(config), tmp_path / f"{name}.yaml") == config


@pytest.mark.parametrize("path", STUDIES, ids=from_root)
def test_every_study_loads_and_round_trips(path: Path, tmp_path: Path) -> None:
    config = load_config(CompareConfig, path)
    save_config(config, tmp_path / path.name)
    assert load_config(CompareConfig, tmp_path / path.name) == config


MISTAKES = {
    "no_such_key=1": "there is no section or key 'no_such_key'",
    "tokeniser.steps=1": "did you mean tokenizer? There are run_dir",
    "steps=1": "no section or key 'steps', did you mean tokenizer.steps or ",
    "temperature=1": "did you mean samples.temperature?",
    "data.sorce=x": "did you mean 'source'?",
    "prior.batch_size=many": "prior.batch_size='many' must be a whole number",
    "samples=3": "samples=3 must be a group of keys",
    "modality=music": "modality=music is not one of images, speech",
    "tokenizer.model.quantizer.method=simvk": "'simvk' is not one of simvq, vq,",
    "steps": "must have the form key=value",
}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=from_root)
def test_mistakes_in_every_experiment_are_told_in_words(path: Path) -> None:
    for mistake, words in MISTAKES.items():
        with pytest.raises(ValueError) as caught:
            read_experiment(path, [mistake])
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_experiment_starts_from_a_fresh_clone() -> None:
    for path in EXPERIMENTS:
        data = read_experiment(path).config("tokenizer").data
        hub = data.source.count("/") == 1 or data.train.startswith("hf://datasets/")
        assert hub or data.source in ("digits", "spoken_digits"), path


def nested(schema: type[Any]) -> list[type[Any]]:
    parts = [schema]
    for part in parts:
        for hint in get_type_hints(part).values():
            found = [h for h in (hint, *get_args(hint)) if dataclasses.is_dataclass(h)]
            parts += [h for h in found if h not in parts]
    return parts


def test_every_config_field_is_read_somewhere() -> None:
    text = "\n".join(path.read_text() for path in FILES)
    schemas = [schema for configs in CONFIGS.values() for schema in configs().values()]
    schemas.append(CompareConfig)
    for part in {part for schema in schemas for part in nested(schema)}:
        for field in dataclasses.fields(part):
            read = f".{field.name}" in text or f'"{field.name}"' in text
            assert read, f"{part.__name__}.{field.name}"
