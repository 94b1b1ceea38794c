"""Scoring rests on stage 1 and common alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "pipelines" / "evaluation").rglob("*.py"))
ALLOWED = ("common", "stage1_tokenizer", "pipelines.evaluation")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_scoring_knows_nothing_of_the_prior_nor_images_of_speech(path: Path) -> None:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    for name in names:
        if name.startswith(("stage2_prior", "pipelines", "benchmarks")):
            assert name.startswith(ALLOWED), name
        other = {"images": "speech", "speech": "images"}.get(path.parent.name, "none")
        assert not name.startswith(f"pipelines.evaluation.{other}"), name
