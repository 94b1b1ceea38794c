"""The recipes come with the package: listed, found by name in any folder, inside the wheel."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.pages import DOCS, ROOT

from pipelines.cli import main
from pipelines.recipe_list import FACTS, FOLDER, config_path

RESULTS = (DOCS / "results.md").read_text()
PACKAGES = ("simvq", "common", "stage1_tokenizer", "stage2_prior", "pipelines")
NUMBER = re.compile(r"\d[\d.]*")


def test_every_recipe_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes"])
    said = capsys.readouterr().out
    assert {*FACTS} == {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    assert all(f"\n{name} " in said for name in FACTS)
    assert max(map(len, said.splitlines()[:-2])) <= 100


@pytest.mark.parametrize("name", FACTS)
def test_what_was_measured_is_what_the_results_say(name: str) -> None:
    facts = FACTS[name]
    for number in NUMBER.findall(facts.time + facts.result):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", RESULTS), number


def test_a_name_is_a_recipe_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_path("digits") == FOLDER / "digits.yaml"
    assert (
        config_path("compare/smoke").read_text()
        == (ROOT / "configs/compare/smoke.yaml").read_text()
    )
    (tmp_path / "digits").write_text("run_dir: mine")
    assert config_path("digits") == Path("digits")
    assert config_path("mine.yaml") == Path("mine.yaml")


def test_help_takes_a_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["train-tokenizer", "fsdd", "--help"])
    assert "tokenizer.model.sample_rate" in capsys.readouterr().out


def test_an_unknown_name_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["encode", "digitz"])
    said = capsys.readouterr().err
    assert said == (
        "simvq encode: digitz is not a file: give a recipe's file, or a name that `simvq recipes` lists\n"
    )


@pytest.mark.slow
def test_the_wheel_holds_the_recipes_and_runs_one_from_another_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    build = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    site = tmp_path / "site"
    for path in (ROOT / "configs").rglob("*.yaml"):
        inside = site / "pipelines" / "configs" / path.relative_to(ROOT / "configs")
        assert inside.read_text() == path.read_text()
    for package in PACKAGES:
        assert (site / package / "py.typed").exists()
    assert (site / "pipelines/evaluation/templates").is_dir()
    run = [sys.executable, "-m", "pipelines", "train-tokenizer", "smoke", "tokenizer.steps=2"]
    environment = {"PYTHONPATH": str(site), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/smoke/tokenizer/model/model.safetensors").exists()
