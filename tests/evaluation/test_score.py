"""What every score says, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.scores import metrics_by_row

from common.config import to_plain
from common.files import sha256
from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.images.extractors import standard_inception
from pipelines.evaluation.images.metrics import LPIPS, SSIM, standard_alexnet
from pipelines.evaluation.score import compact, finished, read_sampling, score, score_table
from pipelines.evaluation.table import WIDTH, metric


def test_what_can_not_be_computed_is_a_dash_with_its_reason(report: Path) -> None:
    metrics = metrics_by_row(report)["reconstruction"]
    for name in (SSIM, LPIPS):
        assert metrics[name]["value"] is None and "smaller than" in metrics[name]["reason"]
    table = score_table(report)
    assert f"{LPIPS} ({metrics[LPIPS]['reason']})" in table.splitlines()[-1]
    of_table = table.split("\n[1]")[0].splitlines()
    assert max(map(len, of_table)) <= WIDTH


def test_every_metric_says_what_it_depends_on(report: Path, setting: ScoreImagesConfig) -> None:
    document = json.loads((report.parent / "score.json").read_text())
    about = document["provenance"]
    assert setting.classifier is not None
    weights = sha256(setting.classifier / "model.safetensors")
    assert about["extractors"] == {"digits-classifier": weights}
    assert about["references"]["train"]["count"] == 1437
    assert about["references"]["held-out"]["count"] == 360
    assert about["sampling"]["seeds"] == "5..64" and about["sampling"]["guidance"] == 1.5
    assert (
        about["sampling"]["temperature"] == 0.9
        and "round" in about["references"]["train"]["rounding"]
    )
    assert about["environment"]["versions"]["torch-fidelity"] == "0.4.0"
    assert about["config"] == to_plain(setting)
    for row in document["rows"]:
        for name, one in row["metrics"].items():
            if "digits-classifier" in name and one["value"] is not None:
                assert one["extractor_sha256"] == weights and one["count"] > 0
            if "vs train" in name:
                statistics = about["statistics_sha256"]["digits-classifier"]
                assert one["reference_sha256"] == statistics["train"]
                assert one["reference_count"] == about["references"]["train"]["count"]


def test_scoring_again_gives_the_same_metrics_from_the_cache(
    report: Path, setting: ScoreImagesConfig, no_weights: None, tmp_path: Path
) -> None:
    own = dataclasses.replace(setting, cache=tmp_path / "cache", out=tmp_path / "out")
    assert metrics_by_row(score(own)) == metrics_by_row(report)
    cached = sorted(own.cache.rglob("statistics.npz"))
    written = [path.stat().st_mtime_ns for path in cached]
    assert metrics_by_row(score(own)) == metrics_by_row(report)
    assert len(cached) == 2 and [path.stat().st_mtime_ns for path in cached] == written


def test_samples_of_another_tokenizer_are_refused(
    setting: ScoreImagesConfig, tmp_path: Path
) -> None:
    for name in ("samples.npz", "sample.json"):
        (tmp_path / name).write_bytes((setting.samples / name).read_bytes())
    sampling = json.loads((tmp_path / "sample.json").read_text())
    other = sampling | {"tokenizer_sha256": "a" * 64}
    (tmp_path / "sample.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"a{64}.*set tokenizer or samples"):
        score(dataclasses.replace(setting, samples=tmp_path))
    (tmp_path / "sample.json").write_text(json.dumps(sampling | {"labels": [1]}))
    with pytest.raises(ValueError, match="60 images and 1 labels"):
        score(dataclasses.replace(setting, samples=tmp_path))
    np.savez(tmp_path / "samples.npz", np.zeros((9, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\[8, 8, 3\].*set tokenizer or samples"):
        score(dataclasses.replace(setting, samples=tmp_path))
    np.savez(tmp_path / "samples.npz", np.zeros((9, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"float64 array .* needs uint8"):
        score(dataclasses.replace(setting, samples=tmp_path))


def test_samples_of_another_prior_are_refused(setting: ScoreImagesConfig, tmp_path: Path) -> None:
    prior = tmp_path / "run" / "pipeline" / "prior"
    prior.mkdir(parents=True)
    read_sampling(setting)
    (prior / "model.safetensors").write_bytes(b"trained on")
    with pytest.raises(ValueError, match=r"are not by the prior that is in .*run now: remove them"):
        read_sampling(dataclasses.replace(setting, prior_run=tmp_path / "run"))


def test_codes_of_another_codebook_are_refused(setting: ScoreImagesConfig, tmp_path: Path) -> None:
    codes = dataclasses.replace(setting, codes=tmp_path)
    with pytest.raises(ValueError, match=r"no manifest\.json: run `simvq encode`"):
        score(codes)
    (tmp_path / "manifest.json").write_text('{"histogram": [1, 1, 1, 1, 1, 1, 1, 1]}')
    with pytest.raises(ValueError, match="has 8 codes, the tokenizer has 16: set codes"):
        score(codes)
    others = {"histogram": [1] * 16, "encoding_sha256": "a" * 64}
    (tmp_path / "manifest.json").write_text(json.dumps(others))
    with pytest.raises(ValueError, match=r"codes of tokenizer aaaaaaaaaaaaaaaa, but .*set tok"):
        score(codes)


def test_consecutive_seeds_are_written_short() -> None:
    assert compact([3, 4, 5]) == "3..5"
    assert compact([3, 5]) == [3, 5]


def test_a_tokenizer_alone_is_scored_without_samples(
    setting: ScoreImagesConfig, no_weights: None, tmp_path: Path
) -> None:
    nothing = {"samples": None, "prior_run": None, "classifier": None}
    alone = dataclasses.replace(setting, **nothing, out=tmp_path)
    report = score(alone, further={"samples": {"bits per item": metric(value=5.0)}})
    rows = metrics_by_row(report)
    assert rows.keys() == {"reconstruction", "held-out vs train", "train vs train", "samples"}
    assert rows["samples"]["bits per item"]["value"] == 5
    distances = [name for name in rows["reconstruction"] if name.endswith("vs held-out")]
    assert len(distances) == len({*distances}) == 2
    assert "Nearest" not in report.read_text() and finished(alone) == report
    for weights in (standard_inception(), standard_alexnet()):
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_bytes(b"have come since")
        assert finished(alone) is None
        weights.unlink()
        assert finished(alone) == report
    about = json.loads((tmp_path / "score.json").read_text())
    about["provenance"]["config"]["allow_download"] = True
    del about["sha256"]
    (tmp_path / "score.json").write_text(json.dumps(about))
    assert finished(dataclasses.replace(alone, allow_download=True)) is None
