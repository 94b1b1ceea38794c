"""A held-out share: of every label, spread over the data set, and never an item of both parts."""

from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset
from helpers.speech_runs import RATE, words

from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.speech.data import load_clips
from stage1_tokenizer.split import held_out_share, part_of


def test_every_label_gives_its_share_and_every_item_is_in_one_part() -> None:
    labels = ["a"] * 40 + ["b"] * 10 + ["c"] * 3 + ["d"]
    items = Dataset.from_dict({"place": list(range(54)), "label": labels})
    train, held_out = (part_of(items, split, 0.1, "label") for split in ("train", "validation"))
    assert sorted([*train["place"], *held_out["place"]]) == list(range(54))
    assert Counter(held_out["label"]) == {"a": 4, "b": 1, "c": 1}
    assert held_out["place"][:4] == [5, 15, 25, 35]  # evenly spaced
    assert part_of(items, "validation", 0.1, None)["place"] == [5, 16, 27, 37, 48]


def test_every_speaker_stays_in_training() -> None:
    """Whatever the order: speakers that take turns, and each label once by every speaker."""
    for places in ([(0, i % 2) for i in range(12)], [(i // 10, i % 10) for i in range(100)]):
        labels, speakers = zip(*places, strict=True)
        items = Dataset.from_dict({"label": labels, "speaker": speakers})
        train, held_out = (
            part_of(items, split, 0.1, "label", "speaker") for split in ("train", "validation")
        )
        assert {*train["speaker"]} == {*speakers} and {*held_out["label"]} == {*labels}
        assert len({*held_out["speaker"]}) == len(held_out["speaker"])
    lone = Dataset.from_dict({"speaker": ["a", "b", "c", "c", "c"]})
    assert part_of(lone, "validation", 0.5, None, "speaker")["speaker"] == ["c", "c"]


def test_shares_are_told_from_splits() -> None:
    assert held_out_share("10%") == 0.1 and held_out_share("2.5%") == 0.025
    assert held_out_share("validation") is held_out_share("train[:10%]") is None
    for wrong in ("0%", "100%"):
        with pytest.raises(ValueError, match=r"set data\.validation"):
            held_out_share(wrong)


def test_both_modalities_hold_a_share_out(tmp_path: Path) -> None:
    images = ImageDataConfig(source="digits", validation="20%")
    parts = [load_images(images, split, channels=1, size=8) for split in ("train", "validation")]
    assert [len(part) for part in parts] == [1437 - 285, 285]
    assert {parts[1].label(item) for item in parts[1].rows} == set(range(10))
    assert parts[0].fingerprint != parts[1].fingerprint
    data = words(tmp_path)
    clips = type(data)(source="parquet", train=data.train, validation="25%")
    names = [load_clips(clips, split, sample_rate=RATE) for split in ("train", "validation")]
    assert [len(part) for part in names] == [9, 3] and names[0].classes == names[1].classes
    assert {names[1].label(item) for item in names[1].rows} == {0, 1, 2}
