"""Scores a tokenizer and samples of images: score.json and report.html."""

import json
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from common.config import to_plain, write_text
from common.figures import ROUNDING
from common.hub import sha256
from common.processes import processes
from common.runs import environment
from pipelines.evaluation.fidelity import extract, reference
from pipelines.evaluation.images.data import SampledImages, limited, picture_batches
from pipelines.evaluation.images.extractors import ClassifierExtractor, choose_extractor
from pipelines.evaluation.images.figures import Drawn, Scored, figures, read_histogram
from pipelines.evaluation.images.metrics import Lpips
from pipelines.evaluation.images.rows import (
    Judge,
    Reconstructor,
    label_accuracy,
    reconstruction_row,
    set_row,
    train_row,
    with_difference,
)
from pipelines.evaluation.report import compact, render, write_scores
from pipelines.evaluation.speech.evaluation import ScoreSpeechConfig, finished_speech, score_speech
from pipelines.evaluation.table import Number, Row, text_table
from pipelines.evaluation.training_report import run_findings
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.images.data import ImageDataConfig, load_images


@dataclass(frozen=True, kw_only=True)
class ScoreImagesConfig:
    """Scores a tokenizer's reconstructions and a prior's samples against real pictures."""

    modality: Literal["images"] = "images"
    """The key by which a file says what it is for: `speech` is ScoreSpeechConfig's."""
    tokenizer: Path
    """The tokenizer's folder `model`."""
    samples: Path | None = None
    """The folder with samples.npz and sample.json; null scores the tokenizer alone."""
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    """The pictures that the tokenizer and the prior were trained on."""
    classifier: Path | None = None
    """The folder `model` of `simvq train-classifier`: label accuracy, and features without Inception."""
    inception_weights: Path | None = None
    """torch-fidelity's file of Inception weights; null looks for it where torch-fidelity puts it."""
    allow_download: bool = False
    """Download the weights of Inception and LPIPS where they are missing."""
    codes: Path | None = None
    """The folder with the codes' manifest.json: its histogram is drawn."""
    tokenizer_run: Path | None = None
    """The tokenizer's run folder: its curves are drawn."""
    prior_run: Path | None = None
    """The prior's run folder: its curves are drawn."""
    batch_size: int = 64
    """ImageDataset at a time."""
    reference_count: int | None = None
    """Training pictures to compare with, chosen at random by the seed; null for all."""
    out: Path | None = None
    """Where score.json and report.html are written; null for the folder `samples`."""
    cache: Path = Path("runs/.cache")
    """Where features of real pictures are kept."""
    seed: int = 0
    """Of random subsets in the metrics, and of the training pictures chosen."""

    def __post_init__(self) -> None:
        if self.reference_count is not None and self.reference_count < 4:
            raise ValueError(f"reference_count={self.reference_count} must be at least 4: set it")
        if self.samples is None and self.out is None:
            raise ValueError("samples=None leaves no folder for the scores: set samples or out")

    @property
    def folder(self) -> Path:
        """Where score.json and report.html are written."""
        folder = self.out or self.samples
        assert folder is not None
        return folder


def score(config: ScoreImagesConfig | ScoreSpeechConfig) -> Path:
    """Writes score.json and report.html; returns the path of the latter.

    Raises ValueError for samples of another tokenizer, or where there is nothing to extract features with.
    """
    if isinstance(config, ScoreSpeechConfig):
        return score_speech(config)
    device = processes().device
    if not (config.tokenizer / "model.safetensors").is_file():
        raise ValueError(
            f"tokenizer={config.tokenizer} is not a tokenizer's `model` folder: set tokenizer"
        )
    tokenizer = ImageTokenizer.from_pretrained(config.tokenizer).to(device)
    shape = {"channels": tokenizer.config.in_channels, "size": tokenizer.config.image_size}
    sampling = (
        read_sampling(config.samples, config.tokenizer, tokenizer) if config.samples else None
    )
    histogram = read_histogram(config.codes, tokenizer.quantizer.spec)
    classifier = ClassifierExtractor(config.classifier, device) if config.classifier else None
    extractor = choose_extractor(
        config.inception_weights, config.allow_download, classifier, device
    )
    train = load_images(config.data, "train", **shape)
    train = limited(train, config.reference_count, config.seed)
    heldout = load_images(config.data, "validation", **shape)
    size = config.batch_size
    judge = Judge(
        extractor, classifier, reference("train", train, extractor, size, config.cache),
        reference("held-out", heldout, extractor, size, config.cache), config.seed,
    )  # fmt: skip
    lpips = load_lpips(shape["size"], config.allow_download, device)
    reconstructor = Reconstructor(tokenizer, heldout, lpips)
    rebuilt = extract(extractor, reconstructor.batches(size))
    drawn = None
    if config.samples and sampling:
        sampled = SampledImages(config.samples / "samples.npz", sampling["labels"])
        drawn = Drawn(sampled, extract(extractor, sampled.batches(size)), sampling)
    scored = Scored(judge, train, heldout, reconstructor, drawn)
    rows = make_rows(scored, reconstruction_row(judge, rebuilt, reconstructor), size)
    about = provenance(config, scored)
    write_scores(config.folder, rows, about)
    shown = figures(scored, histogram, config.tokenizer_run, config.prior_run)
    title = f"Scores of {config.samples or config.tokenizer}"
    page = render(title, rows, shown, about, run_findings(config.tokenizer_run, config.prior_run))
    write_text(config.folder / "report.html", page)
    return config.folder / "report.html"


def finished(config: ScoreImagesConfig | ScoreSpeechConfig) -> Path | None:
    """The report of this config over these very samples and this tokenizer, if there is one."""
    if isinstance(config, ScoreSpeechConfig):
        return finished_speech(config)
    report, saved = config.folder / "report.html", config.folder / "score.json"
    samples = config.samples and config.samples / "samples.npz"
    if not (report.is_file() and saved.is_file() and (samples is None or samples.is_file())):
        return None
    about = json.loads(saved.read_text())["provenance"]
    same = (
        about["config"] == to_plain(config)
        and about["samples_sha256"] == (samples and sha256(samples))
        and about["tokenizer_sha256"] == sha256(config.tokenizer / "model.safetensors")
    )
    return report if same else None


def make_rows(scored: Scored, reconstruction: Row, batch_size: int) -> list[Row]:
    """The whole table."""
    judge, real, heldout = scored.judge, scored.judge.heldout.features, scored.heldout
    real_accuracy = label_accuracy(
        judge,
        real,
        lambda: picture_batches(heldout, batch_size),
        heldout.classes,
        bool(heldout.classes),
    )
    return [
        reconstruction,
        *(samples_row(judge, drawn, reconstruction, batch_size) for drawn in [scored.drawn] if drawn),
        set_row(
            judge, "held-out vs train", "held-out pictures in the place of samples: what a perfect prior "
            "and tokenizer would reach", real, real_accuracy,
        ),
        train_row(judge),
    ]  # fmt: skip


def samples_row(judge: Judge, drawn: Drawn, reconstruction: Row, batch_size: int) -> Row:
    """What the prior makes, beside what it would make with the tokenizer's own loss alone."""
    sampling = drawn.sampling
    accuracy = label_accuracy(
        judge, drawn.features, lambda: drawn.pictures.batches(batch_size),
        tuple(sampling["classes"] or ()), sampling["labels"] is not None,
    )  # fmt: skip
    samples = set_row(judge, "samples", "what the prior makes", drawn.features, accuracy)
    return with_difference(judge, samples, reconstruction)


def score_table(report: Path) -> str:
    """The table of a report, from the score.json beside it, as plain text for the terminal."""
    document = json.loads((report.parent / "score.json").read_text())
    rows = [
        Row(row["name"], row["meaning"], {k: Number(**n) for k, n in row["numbers"].items()})
        for row in document["rows"]
    ]
    return text_table(rows)


def read_sampling(samples: Path, model: Path, tokenizer: ImageTokenizer) -> dict[str, Any]:
    """sample.json, checked against samples.npz and the tokenizer."""
    for name in ("samples.npz", "sample.json"):
        if not (samples / name).is_file():
            raise ValueError(f"samples={samples} has no {name}: run `simvq sample`, or set samples")
    sampling = json.loads((samples / "sample.json").read_text())
    ours = sha256(model / "model.safetensors")
    if sampling["tokenizer_sha256"] != ours:
        raise ValueError(
            f"samples={samples} were decoded by the tokenizer {sampling['tokenizer_sha256']}, "
            f"tokenizer={model} is {ours}: set tokenizer or samples"
        )
    count, *found = SampledImages(samples / "samples.npz", None).shape
    side = tokenizer.config.image_size
    if found != [side, side, tokenizer.config.in_channels]:
        raise ValueError(
            f"samples={samples} has pictures of {found} (height, width, channels), the tokenizer was "
            f"trained on {[side, side, tokenizer.config.in_channels]}: set tokenizer or samples"
        )
    labels = sampling["labels"]
    if labels is not None and len(labels) != count:
        raise ValueError(
            f"samples={samples} has {count} pictures and {len(labels)} labels: run `simvq sample` again"
        )
    return sampling | {"labels": labels and tuple(labels)}


def load_lpips(size: int, allow_download: bool, device: torch.device) -> Lpips | str:
    """LPIPS, or the reason why it can't be computed."""
    try:
        return Lpips(size, allow_download).to(device)
    except ValueError as error:
        return str(error)


def provenance(config: ScoreImagesConfig, scored: Scored) -> dict[str, Any]:
    """All that the numbers depend on."""
    judge = scored.judge
    parts = {"train": (judge.train, scored.train), "held-out": (judge.heldout, scored.heldout)}
    references = {
        name: {
            "count": len(real.features),
            "statistics_sha256": real.sha256,
            "data_fingerprint": pictures.fingerprint,
        }
        for name, (real, pictures) in parts.items()
    }
    return {
        "config": to_plain(config),
        "extractor": {"name": judge.extractor.name, "sha256": judge.extractor.sha256},
        "classifier_sha256": judge.classifier and judge.classifier.sha256,
        "references": references,
        "resize": "shorter side to the size (bilinear, antialiased), centre crop; none if it fits",
        "rounding": ROUNDING,
        "tokenizer_sha256": sha256(config.tokenizer / "model.safetensors"),
        "samples_sha256": config.samples and sha256(config.samples / "samples.npz"),
        "sampling": scored.drawn and summary(scored.drawn.sampling),
        "environment": environment(),
        "torchmetrics": version("torchmetrics"),
    }


def summary(sampling: dict[str, Any]) -> dict[str, Any]:
    """sample.json, its longest entries in short."""
    labels = sampling["labels"]
    return sampling | {
        "labels": labels and dict(sorted(Counter(labels).items())),
        "seeds": compact(sampling["seeds"]),
    }
