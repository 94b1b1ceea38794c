"""Both stages: resumed runs equal uninterrupted ones bit for bit, two processes see what one sees."""

import dataclasses
import json
from pathlib import Path

import datasets
import pytest
import torch
from helpers.code_runs import small_prior
from helpers.image_runs import few_digits, tokenizer_config
from helpers.processes import run_on_two, save_experiment
from helpers.runs import PowerCut, assert_same_run, cut_in_step

import stage1_tokenizer.train
import stage2_prior.train
from common.checkpoints import list_checkpoints
from common.codes import read_codes, read_manifest
from common.tracking import read_metrics
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.data import ImageAugmentConfig, ImageDataConfig, load_images
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.train import train_tokenizer
from stage2_prior.train import train_prior
from stage2_prior.train_config import TrainPriorConfig

STATE = "checkpoints/step-00000008/state.safetensors"


def prior_config(
    run_dir: Path, codes: Path, tokenizer: Path, **changes: object
) -> TrainPriorConfig:
    options = {"dropout": 0.1, "steps": 8, "batch_size": 76, "ema_decay": 0.9}
    options |= {"log_every": 1, "save_every": 4}
    return small_prior(run_dir, codes=codes, tokenizer=tokenizer, **{**options, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageDataConfig:
    """The first 359 digits to train on, and 90 held out, in Parquet files."""
    return few_digits(tmp_path_factory.mktemp("digits"), train=359, validation=90)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: ImageDataConfig) -> Path:
    """A folder with a trained tokenizer, its codes and a trained prior, all uninterrupted."""
    root = tmp_path_factory.mktemp("runs")
    train_tokenizer(tokenizer_config(root / "tokenizer"))
    model = root / "tokenizer" / "model"
    encode(EncodeImagesConfig(tokenizer=model, out=root / "codes", data=data))
    train_prior(prior_config(root / "prior", root / "codes", model))
    return root


def test_a_tokenizer_run_cut_inside_a_step_goes_on_bit_for_bit(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tokenizer_config(tmp_path / "cut")
    with monkeypatch.context() as patch:
        cut_in_step(patch, stage1_tokenizer.train, 6)
        with pytest.raises(PowerCut):
            train_tokenizer(config)
    assert [path.name for path in list_checkpoints(config.run_dir)] == ["step-00000004"]
    train_tokenizer(config)
    assert_same_run(config.run_dir, trained / "tokenizer", STATE, "model/model.safetensors")


def test_a_prior_run_cut_inside_a_step_goes_on_bit_for_bit(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prior_config(tmp_path / "cut", trained / "codes", trained / "tokenizer" / "model")
    with monkeypatch.context() as patch:
        cut_in_step(patch, stage2_prior.train, 6)
        with pytest.raises(PowerCut):
            train_prior(config)
    train_prior(config)
    assert_same_run(config.run_dir, trained / "prior", STATE, "best/model.safetensors")


def test_a_prior_trained_by_muon_goes_on_bit_for_bit_too(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = trained / "codes", trained / "tokenizer" / "model"
    keys: dict[str, object] = {"optimizer": "muon", "steps": 3, "save_every": 1}
    whole, cut = (prior_config(tmp_path / name, *places, **keys) for name in ("whole", "cut"))
    train_prior(whole)
    with monkeypatch.context() as patch:
        cut_in_step(patch, stage2_prior.train, 2)
        with pytest.raises(PowerCut):
            train_prior(cut)
    train_prior(cut)
    state = "checkpoints/step-00000003/state.safetensors"
    assert_same_run(cut.run_dir, whole.run_dir, state, "best/model.safetensors")
    with pytest.raises(ValueError, match="optimizer=muon, now it is adamw: set run_dir"):
        train_prior(prior_config(tmp_path / "cut", *places, steps=3))


def test_a_finished_run_is_left_alone_and_another_config_refused(trained: Path) -> None:
    model = trained / "tokenizer" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    train_tokenizer(tokenizer_config(trained / "tokenizer"))
    assert model.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="batch_size=8, now it is 16: set run_dir"):
        train_tokenizer(tokenizer_config(trained / "tokenizer", batch_size=16))


def test_a_run_folder_holds_what_it_should(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "tokenizer").iterdir()) == [
        "checkpoints",
        "config.yaml",
        "discriminator",
        "done.json",
        "environment.json",
        "examples",
        "inputs.json",
        "metrics.jsonl",
        "model",
    ]
    row = read_metrics(trained / "tokenizer")[-1]
    for key in [
        "loss/l1",
        "loss/adversarial",
        "loss/discriminator",
        "loss/codebook",
        "loss/commitment",
        "codebook/used",
        "codebook/used_epoch",
        "codebook/perplexity",
        "codebook/effective_rank",
        "heldout/psnr",
        "speed/images_per_second",
        "speed/peak_memory_gib",
        "optim/skipped",
        "data/bad",
        "data/unfit",
    ]:
        assert key in row, key
    validated = [row for row in read_metrics(trained / "prior") if "heldout/nats_per_code" in row]
    assert [row["step"] for row in validated] == [5, 8]  # 359 items, 76 a step: and at the end
    last = validated[-1]
    assert last["heldout/bits_per_code"] == pytest.approx(
        last["heldout/nats_per_code"] / 0.693147, rel=1e-5
    )
    steps = [row for row in read_metrics(trained / "prior") if "loss/train" in row]
    assert steps[-1]["step"] == 8
    assert all(
        row["speed/codes_per_second"] > 0 and row["speed/peak_memory_gib"] > 0.05 for row in steps
    )
    assert last["baseline/chance_nats"] == pytest.approx(3.4657, abs=1e-4)
    assert last["baseline/bigram_nats"] < last["baseline/chance_nats"]


def test_codes_are_written_once_and_their_manifest_is_true(trained: Path) -> None:
    manifest = read_manifest(trained / "codes")
    rows = read_codes(trained / "codes", "train")
    assert len(rows) == manifest["rows"]["train"] == 359
    assert sum(manifest["histogram"]) == manifest["positions"] == 359 * 16
    assert str(rows.features["codes"].feature.dtype) == "uint16"
    tokenizer = ImageTokenizer.from_pretrained(trained / "tokenizer" / "model")
    data = load_images(ImageDataConfig(), "train", channels=1, size=8)
    images = torch.stack([data.view(data.decode(data[i])) for i in (0, 300)])
    stored = torch.tensor([rows[0]["codes"], rows[300]["codes"]])
    assert torch.equal(tokenizer.encode(images).flatten(1), stored)
    assert [rows[0]["label"], rows[300]["item"]] == [data.label(data[0]), 300]


def test_codes_open_as_a_data_set(trained: Path) -> None:
    codes = datasets.load_from_disk(trained / "codes")
    assert set(codes) == set(read_manifest(trained / "codes")["rows"])
    for split, rows in codes.items():
        ours = read_codes(trained / "codes", split)
        assert rows.features == ours.features and rows[:] == ours[:]
    alone = datasets.load_from_disk(trained / "codes" / "train")
    assert len(alone) == 359 and alone.split == "train"


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_encoding_goes_on_after_a_kill_and_writes_nothing_twice(
    trained: Path, tmp_path: Path, kind: str
) -> None:
    config = EncodeImagesConfig(
        tokenizer=trained / "tokenizer" / "model",
        out=tmp_path / "codes",
        views=("centre", "centre-flip", "top-left"),
        shard_items=400,
        format=kind,  # type: ignore[arg-type]
    )
    whole = encode(config)
    files = sorted((config.out / "train").glob("shard-*"))
    assert [path.name for path in files] == [f"shard-{i:05d}.{kind}" for i in range(4)]
    kept = {path: path.stat().st_mtime_ns for path in files}
    files[2].unlink()
    (config.out / "train" / f".shard-00002.{kind}.tmp").write_bytes(b"half")
    (config.out / "manifest.json").write_text(json.dumps({**whole, "complete": False}))
    assert encode(config)["histogram"] == whole["histogram"]
    assert len(read_codes(config.out, "train")) == 3 * 1437
    changed = [path for path in files if path.stat().st_mtime_ns != kept[path]]
    assert changed == [files[2]]
    with pytest.raises(ValueError, match="views"):
        encode(dataclasses.replace(config, views=("centre",)))


def test_a_prior_refuses_codes_of_another_tokenizer_naming_both(
    trained: Path, tmp_path: Path
) -> None:
    ImageTokenizer(tokenizer_config(tmp_path).model).save_pretrained(tmp_path / "other")
    config = prior_config(tmp_path / "prior", trained / "codes", tmp_path / "other")
    theirs = read_manifest(trained / "codes")["encoding_sha256"]
    with pytest.raises(
        ValueError, match=f"codes of tokenizer {theirs[:16]}, but .* is [0-9a-f]{{16}}"
    ):
        train_prior(config)
    with pytest.raises(ValueError, match="run `simvq encode` first"):
        train_prior(dataclasses.replace(config, codes=tmp_path / "absent"))


def test_two_processes_train_a_tokenizer_as_one(tmp_path: Path) -> None:
    config = tokenizer_config(
        tmp_path / "tokenizer",
        loss=ImageLossConfig(perceptual_weight=0, adversarial_weight=0),
        steps=4,
        augment=ImageAugmentConfig(flip=True),
    )
    save_experiment(tmp_path / "t.yaml", tokenizer=config)
    run_on_two(tmp_path, "train-tokenizer", "t.yaml")
    environment = json.loads((tmp_path / "tokenizer" / "environment.json").read_text())
    assert environment["processes"] == 2
    train_tokenizer(dataclasses.replace(config, run_dir=tmp_path / "alone"))
    two, one = (read_metrics(tmp_path / name) for name in ("tokenizer", "alone"))
    for a, b in zip(two, one, strict=True):
        for key in ("loss/l1", "loss/codebook", "heldout/psnr", "codebook/perplexity"):
            assert a[key] == pytest.approx(b[key], rel=1e-3), (a["step"], key)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_two_processes_encode_as_one(
    trained: Path, data: ImageDataConfig, tmp_path: Path, shared: bool
) -> None:
    encoding = EncodeImagesConfig(
        tokenizer=trained / "tokenizer" / "model",
        out=tmp_path / "codes",
        data=data,
        shard_items=75,
        shared=shared,
    )
    save_experiment(tmp_path / "e.yaml", codes=encoding)
    run_on_two(tmp_path, "encode", "e.yaml")
    ours, theirs = (
        read_codes(folder, "train") for folder in (tmp_path / "codes", trained / "codes")
    )
    assert ours[:]["codes"] == theirs[:]["codes"]


@pytest.mark.slow
def test_two_processes_train_a_prior_as_one(trained: Path, tmp_path: Path) -> None:
    prior = prior_config(
        tmp_path / "prior", trained / "codes", trained / "tokenizer" / "model", dropout=0.0, steps=5
    )
    save_experiment(tmp_path / "p.yaml", prior=prior)
    run_on_two(tmp_path, "train-prior", "p.yaml")
    train_prior(dataclasses.replace(prior, run_dir=tmp_path / "prior alone"))
    two, one = (read_metrics(tmp_path / name) for name in ("prior", "prior alone"))
    for a, b in zip(two, one, strict=True):
        assert a["loss/train"] == pytest.approx(b["loss/train"], rel=1e-4)
    assert two[-1]["heldout/nats_per_code"] == pytest.approx(
        one[-1]["heldout/nats_per_code"], rel=1e-4
    )
    assert (tmp_path / "prior" / "pipeline" / "pipeline.json").is_file()
