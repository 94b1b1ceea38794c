"""Scores a tokenizer and samples against real items: score.json and report.html."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.config import to_plain
from common.files import check_seal, read_json, sha256, write_text
from common.processes import processes
from common.runs import environment
from pipelines.evaluation.config import ScoreImagesConfig, ScoreSpeechConfig
from pipelines.evaluation.extractors import second_classifier
from pipelines.evaluation.figures import codes_figures, curve_figures, read_histogram
from pipelines.evaluation.images.evaluation import ImageEvaluation
from pipelines.evaluation.images.extractors import standard_inception
from pipelines.evaluation.images.metrics import standard_alexnet
from pipelines.evaluation.images.protocols import image_protocols
from pipelines.evaluation.protocols import (
    explanations,
    protocols_figure,
    protocols_json,
    read_protocols,
)
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.report import Figure, render
from pipelines.evaluation.speech.evaluation import SpeechEvaluation
from pipelines.evaluation.table import Metrics, ScoredSet, read_scores, text_table, write_scores
from pipelines.evaluation.words import score_words
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer

MEANINGS = {
    "ground truth": "held-out {items} as they are",
    "reconstruction": "held-out {items}, encoded to integers and decoded: what the tokenizer loses",
    "samples": "what the prior makes",
    "i.i.d. codes": "each code drawn from all training codes, decoded: what a useless prior makes",
    "marginals": "each code drawn from those at its place in training {items}, decoded",
    "bigrams": "each code drawn from those that follow the code before it in training, decoded: what a prior must beat",
    "scrambled": "held-out {items} whose parts are shuffled",
    "held-out vs train": "held-out {items} scored as samples: what a perfect prior and tokenizer would reach",
    "train vs train": "the training {items} against themselves: 0 but for rounding, or the metric is broken",
}
"""What each set of the table is."""
PACKAGES = (
    *("torchmetrics", "pesq", "pystoi", "librosa", "torchcrepe", "speechmos", "resemblyzer"),
    "pocketsphinx",
)
"""Packages whose version the metrics depend on."""
NO_TEST = (
    "the scores are of the validation split, by which the weights were chosen: set data.test to a split, or to a "
    "share such as 10%"
)


Evaluation = ImageEvaluation | SpeechEvaluation
"""What a modality adds to scoring: its real items, its samples, and how they are measured."""


def score(
    config: ScoreImagesConfig | ScoreSpeechConfig,
    findings: Sequence[str] = (),
    further: Mapping[str, Metrics] | None = None,
) -> Path:
    """Writes score.json and report.html; returns the path of report.html.

    `findings` are lines for the top of the report; without a test split, one about that is added. `further` are
    metrics from elsewhere, by set. Raises ValueError for samples that are missing, damaged or of another tokenizer
    or prior, and where no network can extract features.
    """
    sampling = read_sampling(config) if config.samples else None
    reconstructor = Reconstructor(load_tokenizer(config).to(processes().device))
    histogram = read_histogram(config.codes, config.tokenizer, reconstructor.spec)
    evaluation = new_evaluation(config, reconstructor, sampling)
    rows = evaluation.metrics()
    for name, more in (further or {}).items():
        rows[name] = rows.get(name, {}) | more
    sets = [
        ScoredSet(name, MEANINGS[name].format(items=evaluation.items), metrics)
        for name, metrics in rows.items()
    ]
    about = provenance(config, evaluation, sampling)
    figures = [*evaluation.figures(), *run_figures(config, reconstructor, histogram, evaluation)]
    if config.data.test is None:
        findings = [*findings, NO_TEST]
    protocols = None
    if isinstance(evaluation, ImageEvaluation):
        if evaluation.config.save_statistics:
            evaluation.write_statistics(config.out / "statistics")
        if evaluation.config.protocols:
            shown, protocols = by_protocols(evaluation)
            figures.append(shown)
    report, title = config.out / "report.html", f"Scores of {config.samples or config.tokenizer}"
    words = score_words(sets, evaluation.items, warned=bool(findings))
    write_text(report, render(title, words, sets, figures, about, findings))
    about["report_sha256"] = sha256(report)
    write_scores(config.out, sets, about, protocols)  # last: `finished` reads it
    return report


def run_figures(
    config: ScoreImagesConfig | ScoreSpeechConfig,
    reconstructor: Reconstructor,
    histogram: Any,
    evaluation: Evaluation,
) -> list[Figure]:
    """The use of the codes, and the curves of both trainings."""
    return [
        *codes_figures(reconstructor, histogram, evaluation.items),
        *curve_figures("tokenizer", config.tokenizer_run),
        *curve_figures("prior", config.prior_run),
    ]


def by_protocols(evaluation: ImageEvaluation) -> tuple[Figure, dict[str, Any]]:
    """The same images by other protocols: for the report, and for score.json."""
    outcomes = image_protocols(evaluation)
    sentences = explanations(outcomes, evaluation.config.paper)
    return protocols_figure(outcomes, sentences), protocols_json(outcomes, sentences)


def load_tokenizer(
    config: ScoreImagesConfig | ScoreSpeechConfig,
) -> ImageTokenizer | SpeechTokenizer:
    """The tokenizer, on the CPU. Raises ValueError for a folder that holds none."""
    if not (config.tokenizer / "model.safetensors").is_file():
        raise ValueError(
            f"tokenizer={config.tokenizer} is not a tokenizer's `model` folder: set tokenizer"
        )
    tokenizer_class = SpeechTokenizer if config.modality == "speech" else ImageTokenizer
    return tokenizer_class.from_pretrained(config.tokenizer)


def new_evaluation(
    config: ScoreImagesConfig | ScoreSpeechConfig,
    reconstructor: Reconstructor,
    sampling: dict[str, Any] | None,
) -> Evaluation:
    """What the modality adds."""
    if isinstance(config, ScoreSpeechConfig):
        return SpeechEvaluation(config, reconstructor, sampling)
    return ImageEvaluation(config, reconstructor, sampling)


def finished(config: ScoreImagesConfig | ScoreSpeechConfig) -> Path | None:
    """The report of this config over these very inputs, if there is one."""
    report, saved = config.out / "report.html", config.out / "score.json"
    if not (report.is_file() and saved.is_file()):
        return None
    about: dict[str, Any] = read_json(saved).get("provenance", {})
    now = {"config": to_plain(config), "inputs": inputs(config), "packages": packages()}
    same = {key: about.get(key) for key in now} == now
    downloads = isinstance(config, ScoreImagesConfig) and config.allow_download
    if downloads and now["inputs"]["Inception"] is None:
        return None  # the download failed
    whole = about.get("report_sha256") in (
        None,
        sha256(report),
    )  # earlier versions had no hash of it
    return report if same and whole else None


def inputs(config: ScoreImagesConfig | ScoreSpeechConfig) -> dict[str, str | None]:
    """The SHA-256 of the files whose change makes scores outdated, except the data; None for a missing file."""
    weights = "model.safetensors"
    files = {"tokenizer": config.tokenizer / weights}
    if config.classifier:
        files["classifier"] = config.classifier / weights
        files["second classifier"] = second_classifier(config.classifier) / weights
    if config.codes:
        files["codes"] = config.codes / "manifest.json"
    if config.prior_run:
        files["prior"] = prior_weights(config.prior_run)
    if isinstance(config, ScoreImagesConfig):
        files["Inception"] = config.inception_weights or standard_inception()
        files["AlexNet"] = standard_alexnet()
        files |= {name: Path(name) / weights for name in config.extractors}
        if config.statistics:
            files["statistics"] = config.statistics
    else:
        files |= {"whisper": Path(config.whisper) / weights} if config.whisper else {}
        files |= {"utmos": config.utmos} if config.utmos else {}
    hashes = {name: sha256(path) if path.is_file() else None for name, path in files.items()}
    return hashes | {"samples": samples_sha256(config)}


def packages() -> dict[str, str]:
    """The versions of the installed packages that the metrics depend on."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def prior_weights(prior_run: Path) -> Path:
    """The weights of the prior that a run has in its pipeline."""
    return prior_run / "pipeline" / "prior" / "model.safetensors"


def score_table(report: Path) -> str:
    """The tables of a report, from the score.json beside it, as plain text for the terminal."""
    parts = [text_table(read_scores(report.parent)), read_protocols(report.parent)]
    return "\n\n".join(filter(None, parts))


def read_sampling(config: ScoreImagesConfig | ScoreSpeechConfig) -> dict[str, Any]:
    """sample.json. Raises ValueError where it or samples are missing or damaged, or of another tokenizer or prior."""
    samples = config.samples
    assert samples is not None
    files = "WAV files" if config.modality == "speech" else "samples.npz"
    if not (samples / "sample.json").is_file() or not sample_files(config):
        raise ValueError(
            f"samples={samples} has no sample.json with {files}: run `simvq sample`, or set samples"
        )
    check_seal(samples)
    sampling: dict[str, Any] = read_json(samples / "sample.json")
    ours = sha256(config.tokenizer / "model.safetensors")
    if sampling["tokenizer_sha256"] != ours:
        raise ValueError(
            f"samples={samples} were decoded by the tokenizer {sampling['tokenizer_sha256']}, "
            f"tokenizer={config.tokenizer} is {ours}: set tokenizer or samples"
        )
    prior = prior_weights(config.prior_run) if config.prior_run else None
    if prior is not None and prior.is_file() and sampling["prior_sha256"] != sha256(prior):
        raise ValueError(
            f"samples={samples} are not by the prior that is in {config.prior_run} now: remove them and sample again, or "
            "set samples"
        )
    return sampling


def sample_files(config: ScoreImagesConfig | ScoreSpeechConfig) -> list[Path]:
    """The files that hold the samples, in order; none without samples."""
    pattern = "*.wav" if config.modality == "speech" else "samples.npz"
    return sorted(config.samples.glob(pattern)) if config.samples else []


def samples_sha256(config: ScoreImagesConfig | ScoreSpeechConfig) -> str | None:
    """The SHA-256 of the samples' file, or of the hashes of all files in order; None without samples."""
    hashes = [*map(sha256, sample_files(config))]
    if len(hashes) > 1:
        return hashlib.sha256("".join(hashes).encode()).hexdigest()
    return hashes[0] if hashes else None


def provenance(
    config: ScoreImagesConfig | ScoreSpeechConfig,
    evaluation: Evaluation,
    sampling: dict[str, Any] | None,
) -> dict[str, Any]:
    """All that the metrics depend on."""
    return {
        "config": to_plain(config),
        "extractors": {each.name: each.sha256 for each in evaluation.extractors},
        "references": evaluation.data(),
        "statistics_sha256": {
            each.extractor.name: each.statistics_sha256 for each in evaluation.references
        },
        "inputs": inputs(config),
        "sampling": sampling and summary(sampling),
        "environment": environment(),
        "packages": packages(),
    }


def summary(sampling: dict[str, Any]) -> dict[str, Any]:
    """sample.json, its longest entries in short: counts of labels and speakers, `first..last` of seeds."""
    short = dict(sampling)
    for name in ("labels", "speakers"):
        if sampling.get(name):
            short[name] = dict(sorted(Counter(sampling[name]).items()))
    return short | {"seeds": compact(sampling["seeds"])}


def compact(seeds: list[int]) -> str | list[int]:
    """`first..last` for consecutive seeds, else the seeds."""
    consecutive = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]}..{seeds[-1]}" if consecutive else seeds
