"""The training of classifiers repeats itself exactly, and stops where it is done."""

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import torch
from helpers.image_runs import few_digits

from common.tracking import read_metrics
from pipelines.evaluation.classifier import second_config, train_classifier, train_classifiers
from pipelines.evaluation.config import (
    ImageArchitecture,
    SpeechArchitecture,
    TrainImageClassifierConfig,
    TrainSpeechClassifierConfig,
)
from pipelines.evaluation.extractors import second_classifier
from pipelines.evaluation.images.classifier import ImageClassifier


def test_a_finished_run_is_not_run_again(trained: TrainImageClassifierConfig) -> None:
    weights = trained.run_dir / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert train_classifier(trained) == trained.run_dir / "model"
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="has done 150 steps, more than steps=3: set steps"):
        train_classifier(dataclasses.replace(trained, steps=3))


def test_a_classifier_of_other_items_is_not_taken_for_one_of_these(tmp_path: Path) -> None:
    data = few_digits(tmp_path / "data", train=40, validation=10)
    config = TrainImageClassifierConfig(run_dir=tmp_path / "run", steps=2, data=data)
    train_classifiers(config)
    few_digits(tmp_path / "data", train=41)
    with pytest.raises(ValueError, match="was trained on other training items than are there now"):
        train_classifiers(config)


def test_a_second_classifier_has_another_architecture_and_learns_too(
    trained: TrainImageClassifierConfig,
) -> None:
    first, second = train_classifiers(trained)
    assert first == trained.run_dir / "model" and second == second_classifier(first)
    model = ImageClassifier.from_pretrained(second)
    assert model.config.architecture == "patches"
    assert model.config.name == "digits-classifier-patches"
    assert read_metrics(second.parent)[-1]["heldout/accuracy"] > 0.95


@pytest.mark.parametrize(
    ("kind", "architectures"),
    [
        (TrainImageClassifierConfig, get_args(ImageArchitecture)),
        (TrainSpeechClassifierConfig, get_args(SpeechArchitecture)),
    ],
)
def test_of_either_architecture_the_second_has_the_other(
    kind: type[TrainImageClassifierConfig], architectures: tuple[ImageArchitecture, ...]
) -> None:
    for one, other in (architectures, architectures[::-1]):
        config = kind(run_dir=Path("runs/classifier"), architecture=one)
        assert second_config(config).architecture == other


def test_a_width_that_two_directions_can_not_share_is_refused() -> None:
    with pytest.raises(ValueError, match="width=65 must be even"):
        TrainSpeechClassifierConfig(run_dir=Path("runs/classifier"), width=65)


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    def weights(name: str, seed: int, workers: int = 0) -> torch.Tensor:
        torch.manual_seed(torch.seed())  # what the process did before must not matter
        config = TrainImageClassifierConfig(
            run_dir=tmp_path / name, steps=3, seed=seed, flip=True, workers=workers
        )
        model = ImageClassifier.from_pretrained(train_classifier(config))
        return torch.cat([p.flatten() for p in model.parameters()])

    first = weights("first", 1)
    assert torch.equal(first, weights("again", 1))
    assert torch.equal(first, weights("by others", 1, workers=2))
    assert not torch.equal(first, weights("other", 2))
