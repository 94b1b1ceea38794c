"""Inception as torch-fidelity has it, and our classifier in its place."""

from pathlib import Path

import pytest
import torch
from helpers.features import CPU, as_reference, features
from torch import Tensor
from torch_fidelity import calculate_metrics

from common.files import sha256
from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.extractors import second_classifier
from pipelines.evaluation.fidelity import distance
from pipelines.evaluation.images.extractors import (
    INCEPTION_FILE,
    ClassifierExtractor,
    ImageExtractor,
    InceptionExtractor,
    UntrainedExtractor,
    choose_extractors,
    extract,
)


def test_the_layout_in_memory_changes_features_by_rounding_only(
    classifier: ClassifierExtractor,
) -> None:
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        expected = classifier.model.features(images.float() / 127.5 - 1)
    torch.testing.assert_close(classifier.extract(images)[0], expected, rtol=1e-5, atol=1e-6)


def test_inception_of_a_file_is_torch_fidelity_s(inception_file: Path) -> None:
    """The same distance as calculate_metrics of the library on the same images; grey becomes colour."""

    class Listed(torch.utils.data.Dataset[Tensor]):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Tensor:
            return self.images[index]

    random = InceptionExtractor(inception_file, CPU)
    generator = torch.manual_seed(0)
    grey = [torch.randint(0, high, (4, 1, 8, 8), generator=generator).byte() for high in (256, 99)]
    (samples, _), (real, logits) = map(random.extract, grey)
    assert samples.shape == (4, 2048) and logits.shape == (4, 1008)
    ours = distance(features(samples), as_reference(real), random)
    colour = [Listed(images.repeat(1, 3, 1, 1)) for images in grey]
    theirs = calculate_metrics(
        input1=colour[0],
        input2=colour[1],
        fid=True,
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(inception_file),
        feature_extractor="inception-v3-compat",
    )
    assert ours.value is not None and ours.value > 1
    assert ours.value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3, abs=1e-6)
    assert ours.note is not None and "biased upwards: 4 items" in ours.note


def test_a_file_that_is_not_inception_s_is_refused(inception_file: Path, tmp_path: Path) -> None:
    posing = tmp_path / INCEPTION_FILE
    posing.write_bytes(inception_file.read_bytes())
    with pytest.raises(ValueError, match=r"name promises 6726825d"):
        InceptionExtractor(posing, CPU)
    empty = tmp_path / "empty.pth"
    torch.save({}, empty)
    with pytest.raises(ValueError, match="not those of Inception v3"):
        InceptionExtractor(empty, CPU)
    harmful = tmp_path / "harmful.pth"
    torch.save({"weight": print}, harmful)
    with pytest.raises(ValueError, match="not those of Inception v3"):
        InceptionExtractor(harmful, CPU)


def test_the_choice_falls_back_and_says_how_to_get_features(
    classifier: ClassifierExtractor, inception_file: Path, no_weights: None, tmp_path: Path
) -> None:
    def chosen(**keys: Path) -> list[ImageExtractor]:
        config = ScoreImagesConfig(tokenizer=tmp_path, out=tmp_path, **keys)  # type: ignore[arg-type]
        return choose_extractors(config, CPU)

    first = tmp_path / "classifiers" / "model"
    classifier.model.save_pretrained(first)
    assert [each.sha256 for each in chosen(classifier=first)] == [classifier.sha256]
    classifier.model.save_pretrained(second_classifier(first))
    assert [each.sha256 for each in chosen(classifier=first)] == [classifier.sha256] * 2
    by_file = chosen(inception_weights=inception_file, classifier=first)
    assert len(by_file) == 3 and by_file[0].sha256 == sha256(inception_file)
    neither, again = chosen(), chosen()
    assert [e.name for e in neither] == ["untrained-network", "untrained-network-7x7"]
    grey = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    assert neither[0].sha256 == again[0].sha256 != neither[1].sha256
    assert neither[0].extract(grey)[0].shape == (3, 128)
    assert torch.equal(neither[0].extract(grey)[0], again[0].extract(grey)[0])
    with pytest.raises(ValueError, match="is not a file: set inception_weights"):
        chosen(inception_weights=tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="set classifier"):
        ClassifierExtractor(tmp_path, CPU)


def test_no_image_that_can_be_decoded_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="none of the images can be decoded"):
        extract([UntrainedExtractor(CPU)], iter([]))
