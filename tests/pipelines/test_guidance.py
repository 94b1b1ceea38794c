"""The guidance of samples is chosen by the validation items, and what was measured is kept."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.image_runs import MODEL

from pipelines.evaluation.images.classifier import ImageClassifier, ImageClassifierConfig
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.sample import sample
from pipelines.sample_config import SampleImagesConfig
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.images.data import ImageDataConfig
from stage2_prior import Prior, PriorConfig

CLASSES = tuple(map(str, range(10)))


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> SampleImagesConfig:
    """Random weights, but for a condition that makes a difference."""
    root = tmp_path_factory.mktemp("guidance")
    torch.manual_seed(0)
    grid = MODEL.grid
    prior = Prior(
        PriorConfig(codebook_size=32, code_dim=4, length=grid[0] * grid[1], classes=10, size="1m")
    )
    torch.nn.init.normal_(prior.condition_embedding.weight)
    torch.nn.init.normal_(prior.vocabulary.output.weight)
    pipeline = ImageGenerationPipeline(ImageTokenizer(MODEL), prior, CLASSES)
    pipeline.save_pretrained(root / "pipeline")
    classifier = ImageClassifier(ImageClassifierConfig(name="c", classes=CLASSES))
    classifier.save_pretrained(root / "classifier")
    return SampleImagesConfig(
        pipeline=root / "pipeline",
        out=root / "samples",
        classifier=root / "classifier",
        data=ImageDataConfig(validation="5%", test="test"),
        count=12,
        guidance=(1.0, 4.0),
    )


def test_the_nearest_is_taken_and_a_second_call_changes_nothing(
    setting: SampleImagesConfig,
) -> None:
    folder = sample(setting)
    written = json.loads((folder / "sample.json").read_text())
    distances = {float(key): value for key, value in written["guidance_distances"].items()}
    assert written["guidance"] == min(distances, key=distances.__getitem__)
    assert len(set(distances.values())) == 2 and all(value > 0 for value in distances.values())
    measured = (folder / "guidance.json").read_bytes()
    assert sample(setting) == folder and (folder / "guidance.json").read_bytes() == measured
    given = replace(setting, out=folder.with_name("given"), guidance=written["guidance"])
    assert (sample(given) / "samples.npz").read_bytes() == (folder / "samples.npz").read_bytes()


def test_another_prior_or_list_is_measured_anew(setting: SampleImagesConfig) -> None:
    out = setting.out.with_name("others")
    first, second = (
        sample(replace(setting, out=out / str(len(values)), guidance=values)) / "guidance.json"
        for values in ((1.0, 4.0), (4.0, 1.0, 2.0))
    )
    distances = [json.loads(path.read_text())["distances"] for path in (first, second)]
    assert distances[0] == distances[1][1::-1]


def test_what_was_measured_at_another_temperature_is_not_taken(setting: SampleImagesConfig) -> None:
    warm, cool = (setting.out.with_name(name) for name in ("warm", "cool"))
    first = sample(replace(setting, out=warm)) / "guidance.json"
    cool.mkdir()
    shutil.copy(first, cool)
    second = sample(replace(setting, out=cool, temperature=0.3)) / "guidance.json"
    distances = [json.loads(path.read_text())["distances"] for path in (first, second)]
    assert distances[0] != distances[1]


def test_one_sample_has_no_covariance_to_choose_by(setting: SampleImagesConfig) -> None:
    with pytest.raises(ValueError, match=r"at least 2 samples .* there is 1: set guidance"):
        sample(replace(setting, count=1, out=setting.out.parent / "one"))


def test_a_list_without_a_classifier_is_refused(setting: SampleImagesConfig) -> None:
    for changes in ({"classifier": None}, {"guidance": ()}):
        with pytest.raises(ValueError, match=r"list to choose from.*set guidance to a number"):
            replace(setting, **changes)  # type: ignore[arg-type]
