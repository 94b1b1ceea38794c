"""A run whose folder, data or codes were changed since it began: it does not go on as if nothing were."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.code_runs import run_config, write_counting
from helpers.image_runs import few_digits, tokenizer_config

from common.codes import code_files
from common.files import read_json, sha256
from common.manifest import write_manifest
from common.runs import is_finished
from pipelines.evaluation.features import Features, cached_reference
from stage1_tokenizer.images.training import TrainImageTokenizerConfig
from stage1_tokenizer.train import train_tokenizer
from stage2_prior.train import train_prior


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainImageTokenizerConfig:
    """A run of six steps that has ended."""
    folder = tmp_path_factory.mktemp("ended")
    data = few_digits(folder / "data", train=40, validation=12)
    config = tokenizer_config(folder / "run", data=data, steps=6, save_every=3)
    train_tokenizer(config)
    return config


def copy_of(config: TrainImageTokenizerConfig, folder: Path) -> TrainImageTokenizerConfig:
    shutil.copytree(config.run_dir, folder)
    return replace(config, run_dir=folder)


def test_a_run_without_its_checkpoints_is_finished_for_its_own_config_alone(
    config: TrainImageTokenizerConfig, tmp_path: Path
) -> None:
    own = copy_of(config, tmp_path / "run")
    shutil.rmtree(own.run_dir / "checkpoints")
    model = own.run_dir / "model"
    assert is_finished(own, model)
    with pytest.raises(ValueError, match="holds a run with seed=0, now it is 1: set run_dir"):
        is_finished(replace(own, seed=1), model)
    with pytest.raises(ValueError, match="no checkpoint to go on from to steps=9: set steps to 6"):
        is_finished(replace(own, steps=9), model)
    with pytest.raises(ValueError, match="has done 6 steps, more than steps=3"):
        is_finished(replace(own, steps=3), model)


def test_an_emptied_model_is_made_again(config: TrainImageTokenizerConfig, tmp_path: Path) -> None:
    own = copy_of(config, tmp_path / "run")
    shutil.rmtree(own.run_dir / "model")
    (own.run_dir / "model").mkdir()
    model = train_tokenizer(own) / "model.safetensors"
    assert sha256(model) == sha256(config.run_dir / "model" / "model.safetensors")


def test_a_training_does_not_go_on_over_other_data(
    config: TrainImageTokenizerConfig, tmp_path: Path
) -> None:
    own = copy_of(config, tmp_path / "run")
    path = Path(own.data.train)
    before = path.read_bytes()
    shutil.copy(few_digits(tmp_path / "data", train=41).train, path)
    with pytest.raises(ValueError, match="was trained on other training items than are there now"):
        train_tokenizer(replace(own, steps=9))
    assert train_tokenizer(own).is_dir()  # the finished run is as it was
    path.write_bytes(before)


@pytest.mark.parametrize("steps", [12, 16])
def test_a_prior_neither_skips_nor_resumes_over_codes_that_were_made_again(
    steps: int, tmp_path: Path
) -> None:
    folder = write_counting(tmp_path) / "codes"
    train, held_out = (code_files(folder, split)[0] for split in ("train", "validation"))

    def write_hashes() -> None:
        shards = {path.relative_to(folder).as_posix(): sha256(path) for path in (train, held_out)}
        manifest = read_json(folder / "manifest.json")
        write_manifest(folder / "manifest.json", {**manifest, "shards": shards})

    write_hashes()
    config = run_config(tmp_path, "prior")
    best = train_prior(config)
    assert train_prior(config) == best
    shutil.copy(held_out, train)
    write_hashes()
    with pytest.raises(
        ValueError, match="was trained on other codes than are there now: set run_dir"
    ):
        train_prior(replace(config, steps=steps))
    shutil.rmtree(folder)  # what is trained needs them no more
    assert train_prior(config) == best


def test_a_run_may_be_renamed_and_named_absolutely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its codes and its tokenizer are where they were, seen from its folder; elsewhere they are others."""
    write_counting(tmp_path / "old")
    config = run_config(tmp_path / "old", "prior")
    train_prior(config)
    os.rename(tmp_path / "old", tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    for place in (Path("new"), tmp_path / "new"):
        there = {name: place / name for name in ("codes", "tokenizer")}
        moved = replace(config, run_dir=place / "prior", **there)
        assert train_prior(moved) == moved.run_dir / "best"
    with pytest.raises(ValueError, match=r"holds a run with tokenizer=.*set run_dir"):
        train_prior(replace(moved, tokenizer=tmp_path / "another"))


def test_two_commands_fill_the_cache_of_features_once(tmp_path: Path) -> None:
    made: list[int] = []

    def extract() -> Features:
        made.append(1)
        return Features(
            torch.randn(8, 2), torch.randn(8, 3), torch.arange(8), torch.zeros(8).long()
        )

    def reference(_: int) -> str:
        return cached_reference("train", {"key": 1}, tmp_path, extract).sha256

    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(reference, range(4))}) == 1
    assert made == [1]
