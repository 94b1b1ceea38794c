"""The cache of features."""

from dataclasses import replace
from pathlib import Path

import torch

from pipelines.evaluation.features import limited
from pipelines.evaluation.images.extractors import ClassifierExtractor, reference
from stage1_tokenizer.images.data import ImageDataConfig, digits_rows, load_images


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


def test_images_that_changed_under_their_name_have_features_of_their_own(
    classifier: ClassifierExtractor, tmp_path: Path
) -> None:
    """Though the fingerprint of a split, of 64 items spread over it, is the same."""
    file, cache = str(tmp_path / "train.parquet"), tmp_path / "cache"
    rows = digits_rows("train")
    config = ImageDataConfig(source="parquet", train=file, validation="not read")
    references = []
    for first in (1, 3):  # the 2nd item is not looked at
        changed = [0, first, *range(2, len(rows))]
        rows.select(changed).to_parquet(file)
        images = load_images(config, "train", channels=1, size=8)
        whole = replace(images, rows=images.rows.select(range(200)))
        references.append((images.fingerprint, reference("train", whole, classifier, 64, cache)))
        again = reference("train", whole, classifier, 64, cache)
        assert again.sha256 == references[-1][1].sha256
    assert references[0][0] == references[1][0]
    assert references[0][1].sha256 != references[1][1].sha256
