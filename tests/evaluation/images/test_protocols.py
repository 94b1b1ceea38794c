"""One set of images under several protocols."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_runs import MODEL
from helpers.scores import metrics_by_row
from PIL import Image

from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.images.data import image_batches
from pipelines.evaluation.images.evaluation import ImageEvaluation
from pipelines.evaluation.images.protocols import (
    for_inception,
    jpeg,
    lowered,
    needs_resizing,
    otherwise_resized,
    resized_by_pillow,
    subjects,
)
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.score import score, score_table
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.images.data import ImageDataConfig, load_images

IMAGE = torch.randint(0, 256, (3, 16, 16), generator=torch.manual_seed(0)).byte()


def test_truncation_lowers_half_of_the_values_that_are_not_clipped() -> None:
    change = IMAGE.int() - lowered(IMAGE, 5).int()
    inside = (IMAGE > 0) & (IMAGE < 255)
    assert set(change.unique().tolist()) == {0, 1} and not change[~inside].any()
    assert change[inside].float().mean() == pytest.approx(0.5, abs=0.06)
    assert torch.equal(lowered(IMAGE, 5), lowered(IMAGE, 5))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_nearer_at_higher_quality(channels: int) -> None:
    smooth = torch.linspace(0, 255, 256).reshape(1, 16, 16).repeat(channels, 1, 1).byte()
    off = [(jpeg(q, smooth).int() - smooth.int()).abs().float().mean() for q in (95, 30)]
    assert jpeg(95, smooth).shape == smooth.shape and 0 < off[0] < off[1]


def test_images_are_enlarged_for_inception_by_pillows_filter() -> None:
    dull = IMAGE // 4 + 90  # nothing to be clipped between Pillow's two passes over bytes
    by_pillow = Image.fromarray(dull.permute(1, 2, 0).numpy())
    expected = np.asarray(by_pillow.resize((299, 299), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(for_inception(dull).permute(1, 2, 0).int().numpy() - expected).max() <= 1


def test_clean_fid_resizes_both_sides_alike(inception_file: Path, tmp_path: Path) -> None:
    """Real images have no distance to themselves."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / split / f"{i}.png")
    tokenizer = ImageTokenizer(MODEL)
    tokenizer.save_pretrained(tmp_path / "model")
    config = ScoreImagesConfig(
        tokenizer=tmp_path / "model",
        data=ImageDataConfig(source=str(tmp_path), label_column=None),
        inception_weights=inception_file,
        cache=tmp_path / "cache",
        out=tmp_path / "out",
    )
    evaluation = ImageEvaluation(config, Reconstructor(tokenizer), None)
    (subject,) = subjects(evaluation)
    same = dataclasses.replace(subject, batches=lambda: image_batches(evaluation.heldout, 3))
    ours, real = resized_by_pillow(same, evaluation)
    torch.testing.assert_close(ours.features, real.features)
    assert not torch.allclose(real.features, subject.real.features.features, rtol=1e-3)


def test_images_of_another_size_are_resized_otherwise(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / split / f"{i}.png")
    images = load_images(
        ImageDataConfig(source=str(tmp_path), label_column=None), "train", channels=3, size=16
    )
    assert needs_resizing(images)
    (ours,), (others,) = image_batches(images, 8), otherwise_resized(images, 8)
    assert ours.images.shape == others.images.shape == (4, 3, 16, 16)
    boxes = Image.fromarray(pixels[0]).resize((25, 20), Image.Resampling.BOX)
    expected = np.asarray(boxes.resize((20, 16), Image.Resampling.BICUBIC))[:, 2:18]
    np.testing.assert_array_equal(others.images[0].permute(1, 2, 0).numpy(), expected)
    assert (ours.images.int() - others.images.int()).abs().max() > 3


@pytest.mark.slow
def test_a_score_by_protocols_and_published_statistics(
    setting: ScoreImagesConfig, tmp_path: Path, no_weights: None, clip: Path
) -> None:
    """The table's own distances come first; statistics that were written are read to the same distances."""
    whole = dataclasses.replace(
        setting, out=tmp_path / "whole", protocols=True, save_statistics=True, paper=1e6
    )
    report = score(whole)
    rows = metrics_by_row(report)
    saved = json.loads((report.parent / "score.json").read_text())["protocols"]
    first = {each["row"]: each for each in saved["outcomes"][::-1]}
    name = "FD(digits-classifier) vs "
    for row, against in (("samples", "train"), ("reconstruction", "held-out")):
        value = rows[row][name + against]["value"]
        assert first[row]["protocol"] == "as scored"
        assert first[row]["value"] == pytest.approx(value, rel=1e-6)
        names = [each["protocol"] for each in saved["outcomes"] if each["row"] == row]
        # 60 samples of 64 features are too few for an extrapolation
        assert ("50,000 items, extrapolated" in names) == (row == "reconstruction")
        assert len(set(names)) >= 7 and "JPEG of quality 75" in names
    other = next(e for e in saved["outcomes"] if e["protocol"] == "compared with train images")
    value = rows["reconstruction"][name + "train"]["value"]
    assert other["value"] == pytest.approx(value, rel=1e-6)
    assert "No single protocol turns" in saved["sentences"][1] and "1e+06" in saved["sentences"][1]
    assert saved["sentences"][1] in score_table(report) and "Protocols" in report.read_text()

    path = report.parent / "statistics" / "digits-classifier-train.npz"
    more = {"statistics": path, "extractors": (str(clip),)}
    again = metrics_by_row(score(dataclasses.replace(setting, out=tmp_path / "again", **more)))
    for row in ("samples", "reconstruction", "held-out vs train"):
        to_file = again[row][f"FD(digits-classifier) vs {path.name}"]
        assert to_file["value"] == again[row][name + "train"]["value"]
        assert to_file["reference_count"] == again[row][name + "train"]["reference_count"]
    (cmmd,) = (each for each in again["samples"] if each.startswith("CMMD(clip-of-"))
    assert again["held-out vs train"][cmmd]["value"] < again["samples"][cmmd]["value"]
    np.savez(tmp_path / "others.npz", mu=np.zeros(9), sigma=np.eye(9))
    others = dataclasses.replace(setting, statistics=tmp_path / "others.npz")
    with pytest.raises(ValueError, match="9 features of a network it doesn't name"):
        score(others)
