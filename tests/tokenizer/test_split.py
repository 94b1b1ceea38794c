"""A held-out share: of every label, spread over the data set, and never an item of two parts."""

from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset
from helpers.speech_runs import RATE, words

from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.split import hold_out, share_of


def test_every_label_gives_its_share_and_every_item_is_in_one_part() -> None:
    labels = ["a"] * 40 + ["b"] * 10 + ["c"] * 3 + ["d"]
    items = Dataset.from_dict({"place": list(range(54)), "label": labels})
    train, held_out = hold_out(items, 0.1, "label")
    assert sorted([*train["place"], *held_out["place"]]) == list(range(54))
    assert Counter(held_out["label"]) == {"a": 4, "b": 1, "c": 1}
    assert held_out["place"][:4] == [5, 15, 25, 35]  # evenly spaced
    assert hold_out(items, 0.1, None)[1]["place"] == [5, 16, 27, 37, 48]


def test_every_speaker_stays_in_training() -> None:
    """Whatever the order: speakers that take turns, and each label once by every speaker."""
    for places in ([(0, i % 2) for i in range(12)], [(i // 10, i % 10) for i in range(100)]):
        labels, speakers = zip(*places, strict=True)
        items = Dataset.from_dict({"label": labels, "speaker": speakers})
        train, held_out = hold_out(items, 0.1, "label", "speaker")
        assert {*train["speaker"]} == {*speakers} and {*held_out["label"]} == {*labels}
        assert len({*held_out["speaker"]}) == len(held_out["speaker"])
    lone = Dataset.from_dict({"speaker": ["a", "b", "c", "c", "c"]})
    assert hold_out(lone, 0.5, None, "speaker")[1]["speaker"] == ["c", "c"]


def test_a_share_of_labels_of_one_item_each_is_refused(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": b"", "path": str(i)} for i in range(5)], "label": [*"abcde"]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "data.parquet")
    data = ImageDataConfig(source="parquet", train=str(tmp_path / "data.parquet"), validation="20%")
    with pytest.raises(ValueError, match=r"validation='20%' holds no item out, .* set data.label"):
        load_images(data, "train", channels=1, size=8)


def test_the_only_item_of_a_label_stays_whatever_the_share() -> None:
    items = Dataset.from_dict({"label": [0, 1, 1, 1, 2, 2], "speaker": [*"aaabbb"]})
    assert {*hold_out(items, 0.6, "label", "speaker")[0]["label"]} == {0, 1, 2}


def test_values_that_are_no_names_are_told_before_a_share_is_held_out(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": b"", "path": str(i)} for i in range(5)], "label": [[0]] * 5}
    Dataset.from_dict(rows).to_parquet(tmp_path / "data.parquet")
    data = ImageDataConfig(source="parquet", train=str(tmp_path / "data.parquet"), validation="20%")
    with pytest.raises(ValueError, match=r"label_column='label' has values of the type List"):
        load_images(data, "train", channels=1, size=8)


def test_shares_are_told_from_splits() -> None:
    assert share_of("validation", "10%") == 0.1 and share_of("test", "2.5%") == 0.025
    assert [share_of("test", where) for where in (None, "validation", "train[:10%]")] == [None] * 3
    for wrong in ("0%", "100%"):
        with pytest.raises(ValueError, match=r"set data\.test"):
            share_of("test", wrong)


def test_one_split_can_not_be_trained_on_chosen_by_or_scored_twice() -> None:
    with pytest.raises(ValueError, match=r"one split.*set data\.test"):
        ImageDataConfig(validation="test", test="test")
    with pytest.raises(ValueError, match=r"one split.*set data\.validation to another$"):
        ImageDataConfig(validation="train")
    with pytest.raises(ValueError, match=r"one split.*set data\.test to another, or to null$"):
        ImageDataConfig(test="train")
    assert ImageDataConfig(validation="10%", test="10%").scored == "test"
    assert ImageDataConfig().scored == "validation"


def test_embedded_items_that_are_in_two_splits_are_not_both_chosen_by_and_scored() -> None:
    images, clips = ImageDataConfig(test="test"), SpeechDataConfig(test="test")
    with pytest.raises(ValueError, match=r"of digits are the same items.*set data\.validation"):
        load_images(images, "train", channels=1, size=8)
    with pytest.raises(ValueError, match=r"of spoken_digits are the same items"):
        load_clips(clips, "test", sample_rate=RATE)


def test_both_modalities_hold_shares_out(tmp_path: Path) -> None:
    images = ImageDataConfig(source="digits", validation="20%", test="10%")
    parts = [load_images(images, split, channels=1, size=8) for split in images.splits]
    assert [len(part) for part in parts] == [1437 - 144 - 258, 258, 144]
    pixels = [{row["image"]["bytes"] for row in part.rows} for part in parts]
    assert not pixels[0] & pixels[1] and not pixels[0] & pixels[2] and not pixels[1] & pixels[2]
    assert {parts[1].label(item) for item in parts[1].rows} == set(range(10))
    assert len({part.fingerprint for part in parts}) == 3
    data = words(tmp_path)
    clips = type(data)(source="parquet", train=data.train, validation="25%")
    names = [load_clips(clips, split, sample_rate=RATE) for split in ("train", "validation")]
    assert [len(part) for part in names] == [9, 3] and names[0].classes == names[1].classes
    assert {names[1].label(item) for item in names[1].rows} == {0, 1, 2}


def test_labels_of_a_share_are_read_without_a_copy_of_the_items(tmp_path: Path) -> None:
    Dataset.from_dict(
        {
            "image": [{"bytes": bytes([i]) * 10_000, "path": ""} for i in range(20)],
            "label": [0, 1] * 10,
        }
    ).to_parquet(tmp_path / "train.parquet")
    config = ImageDataConfig(
        source="parquet", train=str(tmp_path / "train.parquet"), validation="10%"
    )
    parts = [load_images(config, split, channels=1, size=8) for split in config.splits]
    assert [part.classes for part in parts] == [("0", "1")] * 2
    assert isinstance(parts[0].rows, Dataset)
    [stored] = parts[0].rows.cache_files
    copies = [*Path(stored["filename"]).parent.glob("cache-*")]
    assert sum(copy.stat().st_size for copy in copies) < 10_000
