"""A whole score of images, with the features of a classifier and without network."""

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.scores import metrics_by_row

from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.images.evaluation import ImageEvaluation
from pipelines.evaluation.images.metrics import LPIPS, SSIM
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.score import load_tokenizer, score
from stage1_tokenizer.images.data import ImageDataConfig, digits_rows


def test_the_rows_and_their_metrics(report: Path) -> None:
    metrics = metrics_by_row(report)
    controls = ["i.i.d. codes", "marginals", "bigrams", "scrambled"]
    assert list(metrics) == [
        *("reconstruction", "samples", *controls, "held-out vs train", "train vs train")
    ]
    name = "(digits-classifier)"
    sets = [
        f"FD{name} vs train",
        f"KID{name} vs train",
        f"precision{name}",
        f"recall{name}",
        f"IS{name}",
        "label accuracy",
        f"nearest train image{name}",
    ]
    assert list(metrics["held-out vs train"]) == sets
    assert list(metrics["samples"]) == [*sets, f"share of the way{name}"]
    assert all(list(metrics[control]) == sets[:4] for control in controls)
    assert list(metrics["train vs train"]) == sets[:1]
    assert set(metrics["reconstruction"]) == {
        "PSNR (dB)",
        SSIM,
        LPIPS,
        "bits per position",
        "codes used",
        "code perplexity",
        f"FD{name} vs held-out",
        *sets[:4],
        "label accuracy",
    }
    assert not any("FID" in name for row in metrics.values() for name in row)


def test_the_metrics_know_the_real_images_from_noise(report: Path) -> None:
    metrics = metrics_by_row(report)
    key = "FD(digits-classifier) vs train"
    assert abs(metrics["train vs train"][key]["value"]) < 1e-6
    assert metrics["held-out vs train"][key]["value"] < 0.1 * metrics["samples"][key]["value"]
    scrambled = metrics["scrambled"][key]["value"]
    assert metrics["held-out vs train"][key]["value"] < scrambled < metrics["samples"][key]["value"]


def test_figures_and_statistics_need_no_metrics_before(
    setting: ScoreImagesConfig, tmp_path: Path, no_weights: None
) -> None:
    alone = dataclasses.replace(setting, samples=None)
    evaluation = ImageEvaluation(alone, Reconstructor(load_tokenizer(alone)), None)
    [reconstructions] = evaluation.figures()
    assert reconstructions.title == "Reconstructions" and reconstructions.png
    evaluation.write_statistics(tmp_path)
    names = {path.stem.removeprefix("digits-classifier-") for path in tmp_path.iterdir()}
    assert names == {"train", "held-out", "reconstruction"}


@pytest.mark.slow
def test_streams_are_scored_as_what_they_are_streams_of(
    setting: ScoreImagesConfig, tmp_path: Path, no_weights: None
) -> None:
    files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
    for split, file in files.items():
        digits_rows(split).to_parquet(file)
    scores = []
    for streaming in (False, True):
        data = ImageDataConfig(
            source="parquet", train=files["train"], validation=files["test"], streaming=streaming
        )
        config = dataclasses.replace(setting, data=data, out=tmp_path / str(streaming))
        scores.append(metrics_by_row(score(config)))
    assert scores[0] == scores[1]


def test_without_labels_and_on_a_part_of_the_references(
    setting: ScoreImagesConfig, tmp_path: Path, no_weights: None
) -> None:
    (tmp_path / "samples.npz").write_bytes((setting.samples / "samples.npz").read_bytes())
    sampling = json.loads((setting.samples / "sample.json").read_text()) | {"labels": None}
    (tmp_path / "sample.json").write_text(json.dumps(sampling))
    part = dataclasses.replace(
        setting,
        samples=tmp_path,
        out=tmp_path,
        codes=None,
        tokenizer_run=None,
        prior_run=None,
        reference_count=50,
    )
    report = score(part)
    assert report == tmp_path / "report.html"
    metrics = metrics_by_row(report)["samples"]
    assert metrics["label accuracy"]["reason"] == "there are no labels"
    assert metrics["FD(digits-classifier) vs train"]["reference_count"] == 50
    assert "biased upwards" in metrics["FD(digits-classifier) vs train"]["note"]
