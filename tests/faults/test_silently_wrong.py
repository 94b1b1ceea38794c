"""Faults after which everything went on, with the wrong result: each is now mended by the same command, or told."""

import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Features, Value
from helpers.image_runs import few_digits, tokenizer_config
from helpers.runs import PowerCut, assert_same_run
from PIL import Image

from common.checkpoints import list_checkpoints
from common.codes import read_codes, read_manifest
from common.tracking import JSONLTracker, read_metrics
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.batches import streamed_rows
from stage1_tokenizer.data import ItemDataset
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.train import train_tokenizer

WEIGHTS = "model/model.safetensors"
STORED = datasets.Image(decode=False)
NAMED = ClassLabel(names=["zero", "one", "two", "three", "four", "five", "six", "seven", "8", "9"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageDataConfig:
    """Forty digits to train on, and twelve held out."""
    return few_digits(tmp_path_factory.mktemp("digits"), train=40, validation=12)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: ImageDataConfig) -> Path:
    """A run of six steps that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    train_tokenizer(tokenizer_config(folder, data=data, steps=6, save_every=3))
    return folder


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def test_a_run_with_more_steps_that_died_before_its_model_is_not_finished(
    tmp_path: Path, whole: Path, data: ImageDataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tokenizer_config(tmp_path, data=data, steps=3, save_every=3)
    train_tokenizer(config)

    def die(*_: object) -> None:
        raise PowerCut

    longer = replace(config, steps=6)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(ImageTokenizer, "save_pretrained", die)
        train_tokenizer(longer)
    assert len(list_checkpoints(tmp_path)) == 2  # steps 3 and 6, and the model of step 3
    train_tokenizer(longer)
    assert_same_run(tmp_path, whole, WEIGHTS)
    with pytest.raises(ValueError, match="has done 6 steps, more than steps=3"):
        train_tokenizer(config)


@pytest.mark.parametrize("damage", ["removed", "truncated", "flipped"])
def test_a_damaged_model_is_made_again(
    damage: str, tmp_path: Path, whole: Path, data: ImageDataConfig
) -> None:
    config = tokenizer_config(tmp_path, data=data, steps=6, save_every=3)
    path = train_tokenizer(config) / "model.safetensors"
    if damage == "removed":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    else:
        flip_a_bit(path)
    train_tokenizer(config)
    assert_same_run(tmp_path, whole, WEIGHTS)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, whole: Path, data: ImageDataConfig
) -> None:
    config = tokenizer_config(tmp_path, data=data, steps=6, save_every=3)
    train_tokenizer(config)
    older, newest = list_checkpoints(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    flip_a_bit(newest / "state.safetensors")
    train_tokenizer(config)
    assert_same_run(tmp_path, whole, WEIGHTS)
    (tmp_path / WEIGHTS).unlink()
    for folder in (older, newest):
        flip_a_bit(folder / "state.safetensors")
    with pytest.raises(ValueError, match=r"all checkpoints in .* are damaged: remove"):
        train_tokenizer(config)


def test_a_half_written_line_of_metrics_takes_no_other_with_it(tmp_path: Path) -> None:
    tracker = JSONLTracker(tmp_path / "metrics.jsonl")
    tracker.log({"loss": 3.0}, step=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # killed here
    tracker.log({"loss": 1.0}, step=2)
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 3.0), (2, 1.0)]


@pytest.mark.parametrize("damage", ["removed", "flipped"])
def test_a_damaged_shard_is_told_by_readers_and_made_again_by_encode(
    damage: str, tmp_path: Path, whole: Path, data: ImageDataConfig
) -> None:
    config = EncodeImagesConfig(tokenizer=whole / "model", out=tmp_path, data=data, shard_items=16)
    encode(config)
    before = read_codes(tmp_path, "train")[:]
    shard = tmp_path / "train" / "shard-00001.arrow"
    if damage == "removed":
        shard.unlink()
    else:
        flip_a_bit(shard)
    with pytest.raises(ValueError, match=r"shard-00001\.arrow is missing or not as it was written"):
        read_manifest(tmp_path)
    encode(config)
    assert read_manifest(tmp_path)["complete"] and read_codes(tmp_path, "train")[:] == before


def test_too_many_bad_items_are_refused_also_by_the_command_that_goes_on(
    tmp_path: Path, whole: Path
) -> None:
    data = few_digits(tmp_path, train=120, validation=12)
    digits = datasets.Dataset.from_parquet(data.train).cast_column("image", STORED)
    rows = list(digits)
    for index in (3, 100):
        rows[index]["image"] = {"bytes": b"no image", "path": f"{index}.png"}
    bad = str(tmp_path / "bad.parquet")
    datasets.Dataset.from_list(rows, features=digits.features).to_parquet(bad)
    config = EncodeImagesConfig(
        tokenizer=whole / "model",
        out=tmp_path / "codes",
        data=replace(data, train=bad),
        shard_items=64,
    )
    for first in (r"3\.png", "item 3 of train"):  # the second command has met one of them alone
        with pytest.raises(ValueError, match=f"2 items of an epoch of 120 .* is {first}: fix"):
            encode(config)


def test_shards_without_a_manifest_are_of_nobody_knows_what(
    tmp_path: Path, whole: Path, data: ImageDataConfig
) -> None:
    config = EncodeImagesConfig(tokenizer=whole / "model", out=tmp_path, data=data)
    encode(config)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"shard-00000.* is there without manifest\.json"):
        encode(config)
    (tmp_path / "manifest.json").write_text('{"complete": tr')
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        encode(config)


def test_images_of_16_bits_keep_their_range_and_those_of_32_are_refused(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "b.tif")
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "c.tif")
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "d.pgm")
    config = ImageDataConfig(source=str(tmp_path), label_column=None)
    for channels in (1, 3):
        images = load_images(config, "train", channels=channels, size=16)
        for place in (0, 3):
            pixels = np.asarray(images.decode(images[place])).reshape(256, -1)
            assert np.abs(pixels[:, 0] - np.linspace(0, 255, 256)).max() <= 1
        for place, name in ((1, r"b\.tif"), (2, r"c\.tif")):
            with pytest.raises(ValueError, match=name):
                images.decode(images[place])


def test_weights_that_are_no_numbers_are_not_loaded(tmp_path: Path, whole: Path) -> None:
    tokenizer = ImageTokenizer.from_pretrained(whole / "model")
    with torch.no_grad():
        next(tokenizer.parameters())[0] = float("nan")
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="holds values that are not finite"):
        ImageTokenizer.from_pretrained(tmp_path / "model")


def test_config_json_of_another_version_is_named(tmp_path: Path, whole: Path) -> None:
    ImageTokenizer.from_pretrained(whole / "model").save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    (tmp_path / "model" / "sha256.json").unlink()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"future": 1}))
    with pytest.raises(ValueError, match=r"config\.json: there is no key 'future'"):
        ImageTokenizer.from_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no weights")
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "future"})
    )
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        ImageTokenizer.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("kind", "label", "said"),
    [
        (Value("int64"), None, "has empty values"),
        (Value("int64"), -1, "has the value -1"),
        (Value("int64"), 2_000_000_000, "has the value 2,000,000,000"),
        (Value("int64"), 7, "has 7 in another split, which no training item has"),
        (NAMED, None, "has empty values"),
        (NAMED, -1, "has the value -1"),
        (NAMED, 7, "has 'seven' in another split, which no training item has"),
    ],
)
def test_labels_that_can_be_no_index_are_told(
    kind: Value | ClassLabel, label: int | None, said: str, tmp_path: Path, data: ImageDataConfig
) -> None:
    rows = load_images(data, "validation", channels=1, size=8).rows
    features = Features(rows.features | {"label": kind})
    changed = rows.cast(features).map(
        lambda row, i: row | {"label": label if i == 3 else 0}, with_indices=True, features=features
    )
    first = changed.select([0, 1, 2])
    first.to_parquet(str(tmp_path / "train.parquet"))
    changed.to_parquet(str(tmp_path / "validation.parquet"))
    files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "validation")}
    with pytest.raises(ValueError, match=f"label_column='label' {said}.*or to null for none"):
        load_images(ImageDataConfig(source="parquet", **files), "validation", channels=1, size=8)


def test_a_strip_is_not_enlarged(tmp_path: Path) -> None:
    Image.new("L", (60_000, 1)).save(tmp_path / "strip.png")
    config = ImageDataConfig(source=str(tmp_path), label_column=None)
    images = load_images(config, "train", channels=1, size=256)
    with pytest.raises(ValueError, match=r"strip\.png"):
        images.decode(images[0])


def test_an_empty_stream_is_told_and_not_waited_for() -> None:
    rows = datasets.IterableDataset.from_generator(lambda: iter(()))
    empty = ItemDataset(rows, ImageDataConfig(), (), "")
    with pytest.raises(ValueError, match=r"has no items: set data\.train"):
        next(streamed_rows(empty, seed=0, start=0, step=1))
