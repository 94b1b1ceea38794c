"""Scoring end to end, with the features of a classifier and without network."""

import dataclasses
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from common.config import to_plain
from common.hub import sha256
from pipelines.evaluation.images.classifier import Classifier, ClassifierConfig
from pipelines.evaluation.images.metrics import LPIPS, SSIM, Lpips, psnr, ssim
from pipelines.evaluation.score import ScoreImagesConfig, compact, finished, score, score_table
from pipelines.evaluation.table import Number, Row, difference, text_table
from stage1_tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig

COUNT = 60


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> ScoreImagesConfig:
    """An untrained tokenizer and classifier, noise as samples, two lines of metrics."""
    root = tmp_path_factory.mktemp("score")
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(
        ImageTokenizerConfig(
            image_size=8, in_channels=1, width=32, multipliers=(1, 1), blocks_per_level=1,
            quantizer=SimVQConfig(codebook_size=16, code_dim=4),
        )
    )  # fmt: skip
    tokenizer.save_pretrained(root / "tokenizer")
    digits = tuple(map(str, range(10)))
    classifier = Classifier(ClassifierConfig(name="digits-classifier", classes=digits))
    classifier.save_pretrained(root / "classifier")
    (root / "samples").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1), dtype=np.uint8)
    np.savez(root / "samples" / "samples.npz", pixels)
    sampling = {
        "count": COUNT, "labels": [i % 10 for i in range(COUNT)], "seeds": list(range(5, 5 + COUNT)),
        "guidance": 1.5, "schedule": "constant", "temperature": 0.9, "top_k": 0, "top_p": 1.0,
        "classes": digits, "tokenizer_sha256": sha256(root / "tokenizer" / "model.safetensors"),
        "prior_sha256": "b" * 64, "versions": {},
    }  # fmt: skip
    (root / "samples" / "sample.json").write_text(json.dumps(sampling))
    (root / "run").mkdir()
    lines = [
        {"step": s, "loss/total": 2.0 - s, "heldout/psnr": 9.0, "loss/train": 1.0} for s in (1, 2)
    ]
    (root / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (root / "codes").mkdir()
    manifest = {"codebook_size": 16, "histogram": list(range(16))}
    (root / "codes" / "manifest.json").write_text(json.dumps(manifest))
    return ScoreImagesConfig(
        tokenizer=root / "tokenizer", samples=root / "samples", classifier=root / "classifier",
        codes=root / "codes", tokenizer_run=root / "run", prior_run=root / "run",
        cache=root / "cache", out=root / "out",
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(setting: ScoreImagesConfig, no_weights: None) -> Path:
    return score(setting)


@pytest.fixture(scope="module")
def no_weights(tmp_path_factory: pytest.TempPathFactory):
    """torch.hub's folder is empty."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path_factory.mktemp("hub"))
    yield
    torch.hub.set_dir(before)


def numbers(report: Path) -> dict[str, dict[str, dict]]:
    rows = json.loads((report.parent / "score.json").read_text())["rows"]
    return {row["name"]: row["numbers"] for row in rows}


def test_the_rows_and_their_metrics(report: Path) -> None:
    found = numbers(report)
    assert list(found) == ["reconstruction", "samples", "held-out vs train", "train vs train"]
    name = "(digits-classifier)"
    sets = [f"FD{name} vs train", f"KID{name} vs train", f"precision{name}", f"recall{name}",
            f"IS{name}", "label accuracy", f"nearest train picture{name}"]  # fmt: skip
    assert list(found["held-out vs train"]) == sets
    assert list(found["samples"]) == [*sets, f"gFD - rFD{name} vs train"]
    assert list(found["train vs train"]) == sets[:1]
    assert set(found["reconstruction"]) == {
        "PSNR (dB)", SSIM, LPIPS, "bits per position", "codes used", "code perplexity",
        f"FD{name} vs held-out", *sets[:4],
    }  # fmt: skip
    assert not any("FID" in metric for row in found.values() for metric in row)


def test_the_metrics_know_the_real_pictures_from_noise(report: Path) -> None:
    found = numbers(report)
    key = "FD(digits-classifier) vs train"
    assert abs(found["train vs train"][key]["value"]) < 1e-6
    assert found["held-out vs train"][key]["value"] < 0.1 * found["samples"][key]["value"]
    gap = found["samples"]["gFD - rFD(digits-classifier) vs train"]["value"]
    parts = found["samples"][key]["value"] - found["reconstruction"][key]["value"]
    assert gap == pytest.approx(parts)


def test_what_can_not_be_computed_is_a_dash_with_its_reason(report: Path) -> None:
    found = numbers(report)["reconstruction"]
    for metric in (SSIM, LPIPS):
        assert found[metric]["value"] is None and "smaller than" in found[metric]["reason"]
    table = score_table(report)
    assert re.search(rf"^{re.escape(LPIPS)} +-$", table, re.MULTILINE)
    assert found[LPIPS]["reason"] in table


def test_every_number_says_what_it_depends_on(report: Path, setting: ScoreImagesConfig) -> None:
    document = json.loads((report.parent / "score.json").read_text())
    about = document["provenance"]
    assert setting.classifier is not None
    weights = sha256(setting.classifier / "model.safetensors")
    assert about["extractor"] == {"name": "digits-classifier", "sha256": weights}
    assert about["references"]["train"]["count"] == 1437
    assert about["references"]["held-out"]["count"] == 360
    assert about["sampling"]["seeds"] == "5..64" and about["sampling"]["guidance"] == 1.5
    assert about["sampling"]["temperature"] == 0.9 and "round" in about["rounding"]
    assert about["environment"]["versions"]["torch-fidelity"] == "0.4.0"
    assert about["config"] == to_plain(setting)
    for row in document["rows"]:
        for metric, number in row["numbers"].items():
            if "digits-classifier" in metric:
                assert number["extractor_sha256"] == weights and number["count"] > 0
            if "vs train" in metric:
                wanted = about["references"]["train"]
                assert number["reference_sha256"] == wanted["statistics_sha256"]
                assert number["reference_count"] == wanted["count"]


def test_the_report_is_one_well_formed_page(report: Path) -> None:
    text = report.read_text()
    pictures = re.findall(r'src="([^"]{30})', text)
    assert len(pictures) == 7  # samples, reconstructions, neighbours, codes, loss, PSNR, nats
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)
    assert "http" not in re.sub(r"<pre>.*</pre>", "", text, flags=re.DOTALL)
    assert "training pictures nearest" in text and "In the training pictures" in text

    class Nesting(html.parser.HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    checker = Nesting()
    checker.feed(text)
    assert not checker.open_tags


def test_scoring_again_gives_the_same_numbers_from_the_cache(
    report: Path, setting: ScoreImagesConfig, no_weights: None
) -> None:
    before = numbers(report)
    cached = sorted(setting.cache.rglob("statistics.npz"))
    made = [path.stat().st_mtime_ns for path in cached]
    assert numbers(score(setting)) == before
    assert len(cached) == 2 and [path.stat().st_mtime_ns for path in cached] == made


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
    with pytest.raises(ValueError, match="60 pictures and 1 labels"):
        score(dataclasses.replace(setting, samples=tmp_path))
    np.savez(tmp_path / "samples.npz", np.zeros((9, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\[8, 8, 3\].*set tokenizer or samples"):
        score(dataclasses.replace(setting, samples=tmp_path))
    np.savez(tmp_path / "samples.npz", np.zeros((9, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"float64 array .* needs uint8"):
        score(dataclasses.replace(setting, samples=tmp_path))


def test_codes_of_another_codebook_are_refused(setting: ScoreImagesConfig, tmp_path: Path) -> None:
    codes = dataclasses.replace(setting, codes=tmp_path)
    with pytest.raises(ValueError, match=r"no manifest\.json: run `simvq encode`"):
        score(codes)
    (tmp_path / "manifest.json").write_text('{"histogram": [1, 1, 1, 1, 1, 1, 1, 1]}')
    with pytest.raises(ValueError, match="has 8 codes, the tokenizer has 16: set codes"):
        score(codes)


def test_without_labels_and_on_a_part_of_the_references(
    setting: ScoreImagesConfig, tmp_path: Path, no_weights: None
) -> None:
    (tmp_path / "samples.npz").write_bytes((setting.samples / "samples.npz").read_bytes())
    sampling = json.loads((setting.samples / "sample.json").read_text()) | {"labels": None}
    (tmp_path / "sample.json").write_text(json.dumps(sampling))
    part = dataclasses.replace(
        setting, samples=tmp_path, out=None, codes=None, tokenizer_run=None, prior_run=None,
        reference_count=50,
    )  # fmt: skip
    report = score(part)
    assert report == tmp_path / "report.html"
    found = numbers(report)["samples"]
    assert found["label accuracy"]["reason"] == "the pictures have no labels"
    assert found["FD(digits-classifier) vs train"]["reference_count"] == 50
    assert "biased upwards" in found["FD(digits-classifier) vs train"]["note"]


def test_psnr_is_of_each_picture() -> None:
    """A constant error of e has 20 log10(255 / e) dB, whatever picture stands beside it."""
    originals = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    made = originals + torch.tensor([10, 1], dtype=torch.uint8).reshape(2, 1, 1, 1)
    expected = torch.tensor([28.1308, 48.1308])
    torch.testing.assert_close(psnr(originals, made), expected, atol=1e-3, rtol=0)
    assert psnr(originals, originals).isinf().all()


def test_ssim_of_identical_pictures_is_one_and_each_picture_has_its_own() -> None:
    images = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.manual_seed(0)).byte()
    made = images.clone()
    made[1] = 255 - made[1]
    values = ssim(images, made)
    torch.testing.assert_close(values[[0, 2]], torch.ones(2))
    assert values[1] < 0


def test_lpips_says_why_it_can_not_be_had(no_weights: None) -> None:
    with pytest.raises(ValueError, match="8 pixels are smaller"):
        Lpips(8, allow_download=False)
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth are not in .* allow_download"):
        Lpips(32, allow_download=False)
    wrong = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    wrong.parent.mkdir()
    torch.save({}, wrong)
    with pytest.raises(ValueError, match=r"promises 7be5be79"):
        Lpips(32, allow_download=False)


def test_a_number_that_is_not_finite_is_a_dash() -> None:
    perfect = Number(value=float("inf"))
    assert Number(value=float("nan"), spread=float("nan")).spread is None
    assert perfect.text == "-" and perfect.reason == "the value is inf, not a finite number"
    gap = difference(Number(value=1.0), perfect, "")
    assert gap.value is None and gap.reason == perfect.reason
    table = text_table([Row("a", "", {"x": Number(value=1.23456, spread=0.1)}), Row("b", "")])
    assert table.splitlines()[1] == "x  1.235 ± 0.1"


def test_consecutive_seeds_are_written_short() -> None:
    assert compact([3, 4, 5]) == "3..5"
    assert compact([3, 5]) == [3, 5]


def test_a_tokenizer_alone_is_scored_without_samples(
    setting: ScoreImagesConfig, no_weights: None, tmp_path: Path
) -> None:
    alone = dataclasses.replace(setting, samples=None, prior_run=None, out=tmp_path)
    report = score(alone)
    rows = {row["name"] for row in json.loads((tmp_path / "score.json").read_text())["rows"]}
    assert rows == {"reconstruction", "held-out vs train", "train vs train"}
    assert "Nearest" not in report.read_text() and finished(alone) == report
    with pytest.raises(ValueError, match="set samples or out"):
        dataclasses.replace(setting, samples=None, out=None)
