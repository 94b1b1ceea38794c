"""A label or a speaker has one index in all splits, or the splits are refused."""

from pathlib import Path
from typing import TypeAlias

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from stage1_tokenizer.images.data import ImageDataConfig, load_images

Kind: TypeAlias = ClassLabel | Value
STORED = {"bytes": Value("binary"), "path": Value("string")}
ANIMALS, TURNED = ClassLabel(names=["cat", "dog"]), ClassLabel(names=["dog", "cat"])
LETTERS, NUMBERS = ClassLabel(names=[*"abcdefghij"]), Value("int64")


def splits(folder: Path, train: Kind, validation: Kind, labels: list[int]) -> ImageDataConfig:
    """The same labels in two Parquet files, as values of these kinds."""
    files = {}
    for split, kind in (("train", train), ("validation", validation)):
        files[split] = str(folder / f"{split}.parquet")
        columns = {"image": [{"bytes": b"", "path": ""} for _ in labels], "label": labels}
        features = Features({"image": STORED, "label": kind})
        Dataset.from_dict(columns, features=features).to_parquet(files[split])
    return ImageDataConfig(source="parquet", **files)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("train", "validation", "labels", "said"),
    [
        (ANIMALS, TURNED, [0, 1], "calls 0 'dog' in a split, and 'cat' in the training split"),
        (LETTERS, NUMBERS, [0, 5], "calls 0 None in a split, and 'a' in the training split"),
        (NUMBERS, LETTERS, [0, 5], "calls 0 'a' in a split, and None in the training split"),
    ],
)
def test_names_that_differ_between_splits_are_told(
    train: Kind, validation: Kind, labels: list[int], said: str, streaming: bool, tmp_path: Path
) -> None:
    config = splits(tmp_path, train, validation, labels)
    given = ImageDataConfig(**{**vars(config), "streaming": streaming})
    with pytest.raises(ValueError, match=f"label_column='label' {said}.*the same names"):
        load_images(given, "validation", channels=1, size=8)


def test_labels_have_the_same_indices_in_both_splits(tmp_path: Path) -> None:
    for kind, classes in ((LETTERS, tuple("abcdefghij")), (NUMBERS, ("0", "5"))):
        config = splits(tmp_path, kind, kind, [0, 5])
        parts = [load_images(config, split, channels=1, size=8) for split in config.splits]
        assert [part.classes for part in parts] == [classes] * 2
        last = [part.label(part[1]) for part in parts]
        assert last == [5, 5] if kind is LETTERS else [1, 1]
