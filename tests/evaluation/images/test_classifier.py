"""The classifier of images learns digits."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from common.seeding import generator_at
from common.tracking import read_metrics
from pipelines.evaluation.classifier import train_classifier
from pipelines.evaluation.config import TrainImageClassifierConfig
from pipelines.evaluation.images.classifier import ImageClassifier, ImageClassifierConfig, shifted
from stage1_tokenizer.images.data import ImageDataConfig, load_images


def test_it_learns_the_digits(trained: TrainImageClassifierConfig) -> None:
    rows = read_metrics(trained.run_dir)
    assert [row["step"] for row in rows] == [50, 100, 150]
    assert rows[-1]["heldout/accuracy"] > 0.97
    assert {"config.yaml", "metrics.jsonl", "model"} <= {p.name for p in trained.run_dir.iterdir()}


def test_the_saved_model_has_names_features_and_logits(trained: TrainImageClassifierConfig) -> None:
    model = ImageClassifier.from_pretrained(trained.run_dir / "model")
    assert model.config.name == "digits-classifier"
    assert model.config.classes == tuple("0123456789")
    images = torch.randn(5, 1, 8, 8)
    assert model.features(images).shape == (5, 64) and model(images).shape == (5, 10)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\).*trained on \(1, 8, 8\); set classifier"):
        model(torch.randn(5, 3, 8, 8))


def test_streams_and_images_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set data\.streaming=false"):
        data = ImageDataConfig(streaming=True)
        train_classifier(TrainImageClassifierConfig(run_dir=tmp_path, data=data))
    with pytest.raises(ValueError, match=r"set data\.label_column"):
        data = ImageDataConfig(label_column=None)
        train_classifier(TrainImageClassifierConfig(run_dir=tmp_path, data=data))


def test_a_bad_image_is_skipped_and_too_many_are_refused(tmp_path: Path) -> None:
    digits = load_images(ImageDataConfig(), "train", channels=1, size=8).rows.select(range(202))
    broken = {"bytes": b"broken", "path": "broken.png"}

    def config(name: str, bad: int) -> TrainImageClassifierConfig:
        rows = [row | {"image": broken} if i < bad else row for i, row in enumerate(digits)]
        path = str(tmp_path / f"{name}.parquet")
        Dataset.from_list(rows, features=digits.features).to_parquet(path)
        data = ImageDataConfig(source="parquet", train=path, validation=f"{path}[:100%]")
        run = tmp_path / name
        return TrainImageClassifierConfig(run_dir=run, data=data, steps=4, batch_size=64)

    assert train_classifier(config("one", bad=1)).is_dir()
    with pytest.raises(ValueError, match=r"can't be decoded, over 1%; the first is broken\.png"):
        train_classifier(config("three", bad=3))


def test_a_shift_keeps_the_middle_of_the_image() -> None:
    image = torch.arange(64.0).reshape(1, 8, 8)
    seen = {tuple(shifted(image, 1, generator_at(0, i))[0, 4, 4:6].tolist()) for i in range(100)}
    around = {(8.0 * y + x, 8.0 * y + x + 1) for y in (3, 4, 5) for x in (3, 4, 5)}
    assert seen == around


@pytest.mark.parametrize(
    ("size", "width", "dimensions"), [(8, 16, 64), (32, 32, 128), (64, 64, 256)]
)
def test_sizes(size: int, width: int, dimensions: int) -> None:
    config = ImageClassifierConfig(image_size=size, in_channels=3, classes=("a", "b"), width=width)
    assert ImageClassifier(config).features(torch.randn(2, 3, size, size)).shape == (2, dimensions)
