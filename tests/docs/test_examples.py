"""The examples in docstrings run; every public class has one."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch
from helpers.pages import ROOT
from helpers.saved import restored

import simvq

FOLDERS = ("common", "stage1_tokenizer", "stage2_prior", "pipelines")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small pipelines, saved."""
    place = tmp_path_factory.mktemp("examples")
    for modality in ("images", "speech"):
        restored(modality, place / f"{modality}_pipeline")
    return place


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(
    module: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", simvq.__all__)
def test_every_public_class_has_an_example(name: str) -> None:
    public = getattr(simvq, name)
    assert ">>> " in public.__doc__ and public.__module__ in MODULES
