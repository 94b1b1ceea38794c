"""profile: parts that add up to the whole, a run folder left alone, and a training that is the same when watched."""

import time
from pathlib import Path

import pytest
import torch
from helpers.speech_runs import run_config
from helpers.speech_runs import words as spoken

import pipelines.profile
from common.stopwatch import Stopwatch, part
from pipelines.cli import main
from pipelines.experiment import read_experiment
from pipelines.profile import MOST_STEPS, Profile, profile, profile_table
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.images.training import TrainImageTokenizerConfig
from stage1_tokenizer.train import begin, take_step, train_tokenizer
from stage2_prior.train_config import TrainPriorConfig

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
CPU = torch.device("cpu")
TRAINED = {"data", "forward", "losses", "backward", "optimizer"}


def smoke(section: str, *changes: str) -> object:
    return read_experiment(SMOKE, [f"{section}.{change}" for change in changes]).config(section)


def images(run_dir: Path, *changes: str) -> TrainImageTokenizerConfig:
    """A training with a discriminator whose turn comes after the steps that are profiled."""
    config = smoke(
        "tokenizer",
        f"run_dir={run_dir}",
        "batch_size=4",
        "loss.adversarial_weight=0.1",
        "loss.adversarial_start=10_000",
        "loss.discriminator_layers=1",
        "loss.discriminator_width=8",
        *changes,
    )
    assert isinstance(config, TrainImageTokenizerConfig)
    return config


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    folder = tmp_path_factory.mktemp("images") / "run"
    found = profile(images(folder))
    assert not folder.exists()
    return found


def test_time_inside_is_not_time_around() -> None:
    stopwatch = Stopwatch(CPU)
    with part("data"):
        pass  # nothing runs yet
    with stopwatch.running():
        with part("forward"):
            time.sleep(0.02)
            with part("search"):
                time.sleep(0.05)
            time.sleep(0.02)
        time.sleep(0.03)
    with part("data"):
        pass
    assert stopwatch.calls == {"forward": 1, "search": 1}
    assert stopwatch.seconds["search"] >= 0.05 and stopwatch.seconds["other"] >= 0.03
    assert 0.04 <= stopwatch.seconds["forward"] < stopwatch.seconds["search"] + 0.04


def test_a_failed_part_is_closed_and_the_watch_ends_with_it() -> None:
    stopwatch = Stopwatch(CPU)
    with pytest.raises(KeyError), stopwatch.running(), part("forward"):
        raise KeyError
    assert Stopwatch.current is None
    with stopwatch.running(), part("losses"):
        pass
    assert stopwatch.calls == {"forward": 1, "losses": 1}


def test_parts_of_a_training_on_pictures_add_up(found: Profile) -> None:
    assert set(found.stopwatch.calls) == {*TRAINED, "search"} and "other" in found.stopwatch.seconds
    assert all(seconds > 0 for seconds in found.stopwatch.seconds.values())
    assert (
        found.stopwatch.calls["search"]
        == found.stopwatch.calls["forward"]
        == found.steps
        == MOST_STEPS
    )
    assert found.stopwatch.calls["backward"] == 2 * found.steps  # the discriminator's too
    assert found.items == 4 * found.steps and found.unit == "images"


def test_the_table_says_it(found: Profile) -> None:
    table, words = profile_table(found).split("\n\n")
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:]}
    assert list(rows) == [
        *("data", "forward", "search", "losses", "backward", "optimizer", "other", "all")
    ]
    shares = [float(row[0].rstrip("%")) for row in rows.values()]
    assert sum(shares[:-1]) == pytest.approx(100, abs=0.5) and shares[-1] == 100
    assert rows["backward"][2] == "2" and len(rows["other"]) == 2
    assert words.startswith("40 steps after 5 of warm-up (cpu, ") and "images per second" in words


def test_speech_and_priors_have_their_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.profile, "MOST_STEPS", 3)
    speech = profile(run_config(tmp_path / "speech", spoken(tmp_path / "words")))
    assert set(speech.stopwatch.calls) == {*TRAINED, "search"} and speech.unit == "clips"
    model = train_tokenizer(images(tmp_path / "tokenizer", "steps=1"))
    codes = smoke("codes", f"tokenizer={model}", f"out={tmp_path / 'codes'}", "views=[centre]")
    assert isinstance(codes, EncodeImagesConfig)
    encode(codes)
    config = smoke(
        "prior",
        f"run_dir={tmp_path / 'prior'}",
        f"codes={codes.out}",
        f"tokenizer={model}",
        "batch_size=2",
    )
    assert isinstance(config, TrainPriorConfig)
    prior = profile(config)
    assert set(prior.stopwatch.calls) == TRAINED and prior.items == 2 * 16 * prior.steps
    assert {path.name for path in tmp_path.iterdir()} == {"words", "tokenizer", "codes"}


def test_a_watched_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    weights = []
    for name in ("watched", "alone"):
        run, _, batches = begin(images(tmp_path / name, "loss.adversarial_start=2"))
        stopwatch = Stopwatch(CPU)
        for step in range(4):
            if name == "alone":
                take_step(run, batches, step)
                continue
            with stopwatch.running():
                take_step(run, batches, step)
        weights.append(run.modality.tokenizer.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_what_has_no_steps_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["sample", "configs/smoke.yaml"], ["no-such-verb", "no.yaml"]):
        with pytest.raises(SystemExit) as caught:
            main(["profile", *words])
        said = capsys.readouterr().err
        assert caught.value.code == 2
        assert f"{words[0]} can't be profiled: give one of train-tokenizer, train-prior" in said
        assert said.count("\n") == 1


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [f"run_dir={tmp_path / 'run'}", "tokenizer.batch_size=2"]
    main(["profile", "train-tokenizer", str(SMOKE), *small])
    said = capsys.readouterr().out
    assert said.startswith("part") and "images per second" in said
    assert not (tmp_path / "run").exists()
