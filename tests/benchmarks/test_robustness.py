"""How robust a recipe is: thresholds beside each, a table that says worst, median and best, and the pages' tables within it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.robustness import Thresholds, command, table, thresholds
from pipelines.experiment import read_experiment

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "benchmarks" / "thresholds").iterdir())
TABLES = sorted((ROOT / "docs" / "robustness").glob("*.json"))
LIMITS = Thresholds(at_least={"codes used": 0.9}, at_most={"mel distance": 2.0})


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_threshold_is_of_a_metric_that_runs_have(recipe: str, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    limits = thresholds(recipe)
    known = {"codes used", "perplexity", "PSNR (dB)", "mel distance"}
    of_samples = {
        name for name in {*limits.at_least, *limits.at_most} if name.startswith("label acc")
    }
    assert (ROOT / "configs" / f"{recipe}.yaml").is_file()
    assert limits.at_least and {*limits.at_least, *limits.at_most} - of_samples <= known
    assert not of_samples or limits.steps is None


def test_what_a_run_misses_is_told_in_words() -> None:
    assert LIMITS.missed({"codes used": 0.95, "mel distance": 2.0}) == []
    assert LIMITS.missed({"codes used": 0.062, "mel distance": 4.57}) == [
        "codes used 0.062 < 0.9",
        "mel distance 4.57 > 2.0",
    ]
    assert LIMITS.missed({"codes used": float("nan"), "mel distance": 1.0}) != []


def test_the_table_puts_the_worst_first() -> None:
    runs = [{"codes used": u, "mel distance": m} for u, m in ((0.95, 1.5), (0.5, 2.5), (1.0, 1.0))]
    assert table(1, runs, LIMITS) == [
        ["1", "codes used", "0.5", "0.95", "1", ">= 0.9", "2 of 3"],
        ["1", "mel distance", "2.5", "1.5", "1", "<= 2", "2 of 3"],
    ]


def test_a_run_has_a_folder_and_seeds_of_its_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    path, *words = command("digits", 3, None, tmp_path, ("data.validation=10%",))[3:]
    assert words.pop() == "allow_failed=true"
    configs = read_experiment(Path(path), words).configs
    assert {configs[name].seed for name in ("tokenizer", "classifier", "prior")} == {3}
    assert configs["tokenizer"].run_dir == tmp_path / "tokenizer"
    assert configs["codes"].data.validation == "10%"
    short = command("librispeech_cpu", 3, 500, tmp_path, ())
    assert "tokenizer.seed=3" in short and "classifier.seed=3" not in short


def test_first_steps_are_those_of_the_recipe(tmp_path: Path) -> None:
    config, out = str(ROOT / "configs/smoke.yaml"), tmp_path / "line.json"
    command = ["-m", "benchmarks.first_steps", config, "2", str(out), f"run_dir={tmp_path / 'run'}"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    line = json.loads(out.read_text())
    assert line["heldout/psnr"] > 0 and 0 < line["codebook/used"] <= 1


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_the_recorded_runs_reach_what_their_recipe_asks(path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    limits = thresholds(path.stem)
    for threads, runs in json.loads(path.read_text()).items():
        for seed, metrics in enumerate(runs):
            assert limits.missed(metrics) == [], f"threads {threads}, seed {seed}"
