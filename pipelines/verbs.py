"""The verbs: each takes its config, does its work, and returns what the command prints."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pipelines.compare.study
import pipelines.evaluation.classifier
import pipelines.evaluation.score
import pipelines.sample
import stage1_tokenizer.encode
import stage1_tokenizer.train
import stage2_prior.train
from common.codes import read_manifest
from common.files import is_sealed, read_json, sha256, shared
from common.findings import lines, refuse_failed
from common.metrics import NAMES
from common.processes import processes
from common.runs import writing
from common.tracking import read_metrics
from pipelines.compare.config import CompareConfig
from pipelines.evaluation.config import (
    ScoreImagesConfig,
    ScoreSpeechConfig,
    TrainImageClassifierConfig,
    TrainSpeechClassifierConfig,
)
from pipelines.evaluation.extractors import second_classifier
from pipelines.evaluation.training_report import write_classifier_report, write_training_report
from pipelines.experiment import saved_config
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.load import Pipeline
from pipelines.generation.speech import SpeechGenerationPipeline
from pipelines.prior_metrics import prior_metrics
from pipelines.prior_report import write_prior_report
from pipelines.sample import SampleImagesConfig, SampleSpeechConfig
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.config import EncodeConfig, TrainTokenizerConfig
from stage1_tokenizer.findings import (
    reconstruction_metric,
    result_line,
    tokenizer_summary,
    training_findings,
)
from stage2_prior.build import load_prior
from stage2_prior.findings import baselines_in_words, prior_findings, prior_summary
from stage2_prior.train_config import TrainPriorConfig

WEIGHTS = "model.safetensors"


def train_tokenizer(config: TrainTokenizerConfig) -> str:
    """Trains a tokenizer and writes its report. Raises FailedRunError where its result is of no use."""
    with writing(config.run_dir):
        model = stage1_tokenizer.train.train_tokenizer(config)
        if processes().is_main_process:
            write_training_report(config.run_dir, method_of(config))
    last = result_line(read_metrics(config.run_dir))
    key, value, _ = reconstruction_metric(last)
    codes = (
        f"over the last {last['codebook/positions']:,} positions {last['codebook/used']:.1%} of "
        f"{last['codebook/size']:,} codes used, perplexity {last['codebook/perplexity']:,.0f}"
    )
    if last["codebook/size"] == 1:
        codes = "there are no codes"
    findings = training_findings(last, method_of(config))
    text = f"{model}: held-out {NAMES.get(key, key)} {value:.2f}; {codes}{left_out(last)}"
    refuse_failed(findings, text, config.allow_failed)
    return "\n".join([text, *lines(findings)])


def left_out(line: dict[str, Any]) -> str:
    """A note on items that were not trained on, each counted as often as it was met, where there were any."""
    bad, unfit = line["data/bad"], line.get("data/unfit", 0)
    notes = {
        f"; {bad:,} times an item could not be decoded": bad,
        f"; {unfit:,} times a clip was left out as silent (tokenizer.augment.silence_db)": unfit,
    }
    return "".join(note for note, count in notes.items() if count)


def bad_items(count: int) -> str:
    """A note on undecodable items, where there were any."""
    return f"; {count} items could not be decoded" if count else ""


def encode(config: EncodeConfig) -> str:
    """Writes the codes of all splits."""
    refuse_unmade(config.tokenizer, "train-tokenizer", "codes.tokenizer")
    with shared(config.out) if config.shared else writing(config.out):
        manifest = stage1_tokenizer.encode.encode(config)
    return (
        f"{config.out}: {manifest['rows']['train']:,} rows, {manifest['positions']:,} positions; "
        f"{manifest['used']:.1%} of {len(manifest['histogram']):,} codes used, "
        f"perplexity {manifest['perplexity']:,.0f}"
        + bad_items(sum(map(len, manifest["bad"].values())))
    )


def refuse_unmade(model: Path, verb: str, key: str) -> None:
    """Raises ValueError for a folder that another verb makes and that is not there; names on the Hub have two parts."""
    if not model.is_dir() and len(model.parts) > 2:
        raise ValueError(f"{model} is not there: run `simvq {verb}` first, or set {key}")


def train_classifier(config: TrainImageClassifierConfig | TrainSpeechClassifierConfig) -> str:
    """Trains both classifiers, on the first process alone, and writes their reports."""
    if processes().is_main_process:  # it trains alone
        with writing(config.run_dir):
            for model in pipelines.evaluation.classifier.train_classifiers(config):
                write_classifier_report(model.parent)
    processes().wait_for_everyone()
    first = config.run_dir / "model"
    models = [first, second_classifier(first)]
    lines = [(model, read_metrics(model.parent)[-1]) for model in models]
    return "\n".join(f"{m}: held-out accuracy {line['heldout/accuracy']:.2%}" for m, line in lines)


def train_prior(config: TrainPriorConfig) -> str:
    """Trains a prior, writes `pipeline/` and the report. Raises FailedRunError where its result is of no use."""
    folder = config.run_dir / "pipeline"
    with writing(config.run_dir):
        best = stage2_prior.train.train_prior(config)
        if processes().is_main_process and not holds(folder, best, config.tokenizer):
            pipeline_of(config, best).save_pretrained(folder)
        if processes().is_main_process:
            write_prior_report(config.run_dir)
    processes().wait_for_everyone()
    metrics = read_metrics(config.run_dir)
    last = [line for line in metrics if "heldout/nats_per_code" in line][-1]
    findings = prior_findings(metrics)
    text = f"{folder}: held-out {last['heldout/best_nats_per_code']:.3f} nats per code{baselines_in_words(last)}"
    refuse_failed(findings, text, config.allow_failed)
    return "\n".join([text, *lines(findings)])


def holds(folder: Path, best: Path, tokenizer: Path) -> bool:
    """Whether a pipeline's folder is whole and has the weights of `best` and `tokenizer`, if these still exist."""
    parts = {"prior": best, "tokenizer": tokenizer}
    pairs = [(folder / name, source) for name, source in parts.items() if source.is_dir()]
    return is_sealed(folder) and all(
        sha256(mine / WEIGHTS) == sha256(source / WEIGHTS) for mine, source in pairs
    )


def pipeline_of(config: TrainPriorConfig, best: Path) -> Pipeline:
    """The pipeline of a trained prior and the tokenizer of its codes."""
    manifest, prior = read_manifest(config.codes), load_prior(best)
    if manifest.get("modality") == "speech":
        tokenizer = SpeechTokenizer.from_pretrained(config.tokenizer)
        return SpeechGenerationPipeline(tokenizer, prior, manifest["classes"], manifest["speakers"])
    classes = manifest["classes"] if prior.config.classes else []
    images = ImageTokenizer.from_pretrained(config.tokenizer)
    return ImageGenerationPipeline(images, prior, classes)


def sample(config: SampleImagesConfig | SampleSpeechConfig) -> str:
    """Samples new items."""
    refuse_unmade(config.pipeline, "train-prior", "samples.pipeline")
    with writing(config.out):
        out: Path = pipelines.sample.sample(config)
    files = "samples.npz and sample.json" if config.modality == "images" else "sample.json"
    if isinstance(config.guidance, tuple):
        files = f"guidance {read_json(out / 'sample.json')['guidance']:g}, {files}"
    return f"{out}: {config.count} samples, {files}"


def compare(config: CompareConfig) -> str:
    """Runs a study of several quantizers. Raises ValueError on several processes."""
    if processes().num_processes > 1:
        raise ValueError("compare starts a process for each row: run it on one, and set at_once")
    with writing(config.out):
        table = pipelines.compare.study.compare(config)
    return f"{table.read_text()}\ntable: {table}"


def score(config: ScoreImagesConfig | ScoreSpeechConfig) -> str:
    """Scores reconstructions and samples, on the first process alone."""
    if not processes().is_main_process:
        return ""
    report = pipelines.evaluation.score.finished(config)
    if report is None:
        findings = run_findings(config.tokenizer_run, config.prior_run)
        further = prior_metrics(config.prior_run, config.codes)
        with writing(config.out):
            report = pipelines.evaluation.score.score(config, findings, further)
    table = pipelines.evaluation.score.score_table(report)
    note = "" if config.data.test else f"\n{pipelines.evaluation.score.NO_TEST}\n"
    return f"{table}\n{note}\nreport: {report}"


def run_findings(tokenizer_run: Path | None, prior_run: Path | None) -> list[str]:
    """The findings of both runs, a line each; nothing where there is nothing to say."""
    findings = []
    if tokenizer_run and (metrics := read_metrics(tokenizer_run)):
        method: str | None = None
        with suppress(ValueError):  # its config.yaml is missing, or of another version
            method = method_of(saved_config("tokenizer", tokenizer_run / "config.yaml"))
        found = training_findings(result_line(metrics), method)
        findings += [f"{tokenizer_run}: {line}" for line in lines(found)]
    if prior_run and (metrics := read_metrics(prior_run)):
        findings += [f"{prior_run}: {line}" for line in lines(prior_findings(metrics))]
    return findings


def method_of(config: Any) -> str:
    """The method of the quantizer that a training's tokenizer has."""
    method: str = config.model.quantizer.method
    return method


def summaries(config: Any) -> list[str]:
    """Three lines on a training that is done, ok or warning; none for other verbs."""
    if isinstance(config, TrainTokenizerConfig):
        return tokenizer_summary(result_line(read_metrics(config.run_dir)), method_of(config))
    if isinstance(config, TrainPriorConfig):
        return prior_summary(read_metrics(config.run_dir))
    return []
