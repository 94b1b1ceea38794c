"""The cache of features."""

from pathlib import Path

import torch

from pipelines.evaluation.features import limited
from pipelines.evaluation.images.extractors import ClassifierExtractor, reference
from stage1_tokenizer.images.data import ImageDataConfig, load_images


def test_the_cache_is_of_one_extractor_split_and_count(
    classifier: ClassifierExtractor, tmp_path: Path
) -> None:
    images = load_images(ImageDataConfig(), "validation", channels=1, size=8)
    first = reference("held-out", images, classifier, 64, tmp_path)
    again = reference("held-out", images, classifier, 50, tmp_path)
    assert again.sha256 == first.sha256 and len(list(tmp_path.glob("[!.]*"))) == 1
    assert torch.equal(again.features.features, first.features.features)
    fresh = reference("held-out", images, classifier, 64, tmp_path / "fresh")
    assert fresh.sha256 == first.sha256
    part = reference("held-out", limited(images, 9, seed=0), classifier, 64, tmp_path)
    assert len(part.features) == 9 and part.sha256 != first.sha256
    classifier.sha256, kept = "other", classifier.sha256
    reference("held-out", images, classifier, 64, tmp_path)
    classifier.sha256 = kept
    assert len([path for path in tmp_path.glob("[!.]*") if path.name != "fresh"]) == 3
