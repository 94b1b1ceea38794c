"""A kill before any change of a file: the same command then ends with the very result of one that nothing happened to."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.forked import KILLED, forked
from helpers.image_runs import few_digits

from pipelines.experiment import Experiment, read_experiment

ROOT = Path(__file__).parents[2]
SECTIONS = ("tokenizer", "codes", "classifier", "prior", "samples", "score")
FAST, SLOW = 40, int(os.environ.get("FAULTS_EVERY", "4"))
"""Of so many points one is tried in the fast part and in the slow one; `make faults` tries every point."""
CLOCKS = ("time", "speed/", "environment", "python", "versions", "report")
"""What may differ between two runs."""


def experiment(folder: Path) -> Experiment:
    """The smoke test's experiment at its smallest, in a folder."""
    data = folder.parent / "data"
    words = [
        f"run_dir={folder}",
        *("data.source=parquet", f"data.train={data / 'train.parquet'}", "data.validation=20%"),
        f"data.test={data / 'test.parquet'}",
        *("tokenizer.steps=4", "tokenizer.save_every=2", "tokenizer.log_every=2"),
        *("tokenizer.batch_size=8", "classifier.steps=2", "codes.shard_items=32"),
        *("prior.steps=4", "prior.save_every=2", "prior.log_every=2", "prior.batch_size=8"),
        *("samples.count=6", "samples.batch_size=4", f"score.cache={folder / 'cache'}"),
    ]
    return read_experiment(ROOT / "configs/smoke.yaml", words)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    root = tmp_path_factory.mktemp("kills")
    few_digits(root / "data", train=80, test=20)
    for section in SECTIONS:
        status, _ = forked(make, root / "whole", section, folder=root / "whole")
        assert status == 0, (root / "log").read_text()
    return root / "whole"


def make(folder: Path, section: str) -> None:
    """The section's verb, as the command line calls it."""
    from pipelines import cli

    cli.make(section, experiment(folder).config(section))


def result(folder: Path, section: str) -> dict[str, Any]:
    """What a section left, by file: bytes, and JSON but for clocks and the folder's own name."""
    place = folder / section
    files = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.suffix in (".safetensors", ".npz", ".png", ".arrow") and "examples" not in name:
            files[name] = path.read_bytes()
        elif path.name in ("score.json", "sample.json", "manifest.json"):
            files[name] = steady(json.loads(path.read_text().replace(str(folder), "RUN")))
        elif path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            files[name] = {line["step"]: steady(line) for line in lines}
    return files


def steady(value: Any) -> Any:
    """JSON without what clocks and paths say."""
    if isinstance(value, dict):
        return {
            key: steady(inner)
            for key, inner in value.items()
            if not key.startswith(CLOCKS) and key not in ("config", "inputs")
        }
    return value


def copied(whole: Path, folder: Path, section: str) -> None:
    """What the sections before one have left, in another folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for earlier in SECTIONS[: SECTIONS.index(section)]:
        shutil.copytree(whole / earlier, folder / earlier)
    if section == "score":
        shutil.rmtree(folder / "cache", ignore_errors=True)


@pytest.mark.parametrize("every", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
@pytest.mark.parametrize("section", SECTIONS)
def test_the_same_command_after_a_kill_ends_with_the_same_result(
    section: str, every: int, whole: Path
) -> None:
    folder, log = whole.parent / "killed", whole.parent / "log"
    copied(whole, folder, section)
    expected = result(whole, section)
    status, points = forked(make, folder, section, folder=folder)
    assert status == 0 and result(folder, section) == expected and points > 5
    for point in range(0, points, every):
        copied(whole, folder, section)
        status, _ = forked(make, folder, section, folder=folder, kill_at=point)
        assert status == KILLED
        status, _ = forked(make, folder, section, folder=folder)
        where = f"{section}, killed before change {point} of {points}"
        assert status == 0, f"{where}: {log.read_text()[-2000:]}"
        assert result(folder, section) == expected, where
