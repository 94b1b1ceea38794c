"""Scores a speech tokenizer and samples of speech: score.json and report.html."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from common.config import to_plain, write_text
from common.hub import sha256
from common.processes import processes
from common.runs import environment
from pipelines.evaluation.fidelity import Features, Reference, cached_reference
from pipelines.evaluation.images.figures import read_histogram
from pipelines.evaluation.report import compact, render, write_scores
from pipelines.evaluation.speech.data import (
    Clips,
    limited,
    read_sampling,
    recorded_clips,
    sample_paths,
    sampled_clips,
)
from pipelines.evaluation.speech.extractors import SpeechClassifierJudge, UtmosJudge, VoiceJudge
from pipelines.evaluation.speech.figures import speech_figures
from pipelines.evaluation.speech.metrics import MissingPackageError, Voicing
from pipelines.evaluation.speech.rows import SpeechReconstructor, make_rows
from pipelines.evaluation.speech.scoring import References, ScoredSet, SpeechScoring, judged
from pipelines.evaluation.speech.transcription import whisper_judge
from pipelines.evaluation.training_report import run_findings
from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.speech.data import SpeechDataConfig, SpeechDataset, load_clips

JUDGES = ("pesq", "pystoi", "librosa", "torchcrepe", "speechmos", "resemblyzer", "pocketsphinx")
"""Packages whose version the numbers depend on."""
NO_CLASSIFIER = "there is no classifier: run `simvq train-classifier`, set classifier=PATH"
NO_UTMOS = "there is no network of opinions: set utmos to a TorchScript file of UTMOS"


@dataclass(frozen=True, kw_only=True)
class ScoreSpeechConfig:
    """Scores a tokenizer's reconstructions and a prior's samples against real recordings."""

    modality: Literal["speech"] = "speech"
    """A file without this key is for pictures."""
    tokenizer: Path
    """The tokenizer's folder `model`."""
    samples: Path | None = None
    """The folder with sample.json and WAV files; null scores the tokenizer alone."""
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    """The recordings that both were trained on; crop_seconds, gain_db and silence_db are not used."""
    classifier: Path | None = None
    """The folder `model` of `simvq train-classifier`: label accuracy, and a Frechet distance."""
    voicing: Voicing = "pyin"
    """The detector of voice: `pyin` on a CPU, `crepe` for published numbers, or `none`."""
    slow_count: int = 32
    """Most clips of each set that V/UV F1, opinions and word errors are computed on, spread evenly over it."""
    whisper: str | None = None
    """Folder or Hub name of a Whisper model in safetensors: word error rate, of speech in English."""
    utmos: Path | None = None
    """TorchScript file that maps recordings (b, t) at 16 kHz to UTMOS's opinions (b,); the published
    checkpoints are pickles, which are never opened here."""
    codes: Path | None = None
    """The folder with the codes' manifest.json: its histogram is drawn."""
    tokenizer_run: Path | None = None
    """The tokenizer's run folder: its curves are drawn."""
    prior_run: Path | None = None
    """The prior's run folder: its curves are drawn, its bits per second of held-out audio shown."""
    reference_count: int | None = None
    """Training recordings to compare with, chosen at random by the seed; null for all."""
    out: Path | None = None
    """Where score.json and report.html are written; null for the folder `samples`."""
    cache: Path = Path("runs/.cache")
    """Where features of real recordings are kept."""
    seed: int = 0
    """Of the training recordings chosen."""

    def __post_init__(self) -> None:
        if self.slow_count < 1 or (self.reference_count or 2) < 2:
            raise ValueError(
                f"slow_count={self.slow_count} must be at least 1 and reference_count="
                f"{self.reference_count} at least 2: set slow_count or reference_count"
            )
        if self.samples is None and self.out is None:
            raise ValueError("samples=None leaves no folder for the scores: set samples or out")

    @property
    def folder(self) -> Path:
        """Where score.json and report.html are written."""
        folder = self.out or self.samples
        assert folder is not None
        return folder


def score_speech(config: ScoreSpeechConfig) -> Path:
    """Writes score.json and report.html; returns the path of the latter.

    Raises ValueError for samples of another tokenizer or rate.
    """
    device = processes().device
    if not (config.tokenizer / "model.safetensors").is_file():
        raise ValueError(
            f"tokenizer={config.tokenizer} is not a tokenizer's `model` folder: set tokenizer"
        )
    tokenizer = SpeechTokenizer.from_pretrained(config.tokenizer).to(device)
    rate = tokenizer.config.sample_rate
    sampling = matching_sampling(config.samples, config.tokenizer, rate) if config.samples else None
    histogram = read_histogram(config.codes, tokenizer.quantizer.spec)
    train = load_clips(config.data, "train", sample_rate=rate)
    train = limited(train, config.reference_count, config.seed)
    sources = train, load_clips(config.data, "validation", sample_rate=rate)
    sampled = None
    if config.samples and sampling:
        sampled = sampled_clips(config.samples, sampling, train.speakers)
    scoring = make_scoring(config, sources, device)
    reconstructor = SpeechReconstructor(tokenizer, scoring.heldout)
    rebuilt = judged(scoring, reconstructor.clips)
    made = judged(scoring, sampled) if sampled else None
    rows = make_rows(scoring, reconstructor, heldout_set(scoring), rebuilt, made, config.prior_run)
    about = provenance(config, scoring, sources, sampling)
    write_scores(config.folder, rows, about)
    drawn = speech_figures(
        sampled, scoring.train, reconstructor, histogram, config.tokenizer_run, config.prior_run
    )
    title = f"Scores of {config.samples or config.tokenizer}"
    found = run_findings(config.tokenizer_run, config.prior_run)
    write_text(config.folder / "report.html", render(title, rows, drawn, about, found))
    return config.folder / "report.html"


def finished_speech(config: ScoreSpeechConfig) -> Path | None:
    """The report of this config over these very samples and this tokenizer, if there is one."""
    report, saved = config.folder / "report.html", config.folder / "score.json"
    missing = config.samples and not sample_paths(config.samples)
    if missing or not (report.is_file() and saved.is_file()):
        return None
    about = json.loads(saved.read_text())["provenance"]
    same = (
        about["config"] == to_plain(config)
        and about["samples_sha256"] == (config.samples and samples_sha256(config.samples))
        and about["tokenizer_sha256"] == sha256(config.tokenizer / "model.safetensors")
    )
    return report if same else None


def matching_sampling(samples: Path, tokenizer: Path, sample_rate: int) -> dict[str, Any]:
    """sample.json, checked against the tokenizer."""
    sampling = read_sampling(samples)
    ours = sha256(tokenizer / "model.safetensors")
    if sampling["tokenizer_sha256"] != ours or sampling["sample_rate"] != sample_rate:
        raise ValueError(
            f"samples={samples} were decoded by the tokenizer {sampling['tokenizer_sha256']} at "
            f"{sampling['sample_rate']} Hz, tokenizer={tokenizer} is {ours} at {sample_rate} Hz: "
            "set tokenizer or samples"
        )
    return sampling


def make_scoring(
    config: ScoreSpeechConfig, sources: tuple[SpeechDataset, SpeechDataset], device: torch.device
) -> SpeechScoring:
    """Judges and real recordings; a judge that can't be had is the reason why."""
    clips = recorded_clips(sources[0]), recorded_clips(sources[1])
    classifier: References | str = NO_CLASSIFIER
    if config.classifier is not None:
        judge = SpeechClassifierJudge(config.classifier, sources[0].sample_rate, device)
        classifier = references(config, judge, sources, clips)
    voices: References | str
    try:
        voices = references(config, VoiceJudge(device), sources, clips)
    except MissingPackageError as error:
        voices = str(error)
    whisper = whisper_judge(config.whisper, device)
    utmos = UtmosJudge(config.utmos, device) if config.utmos else NO_UTMOS
    return SpeechScoring(
        classifier, voices, whisper, utmos, *clips, config.voicing, config.slow_count
    )


def references(
    config: ScoreSpeechConfig,
    judge: SpeechClassifierJudge | VoiceJudge,
    sources: tuple[SpeechDataset, SpeechDataset],
    clips: tuple[Clips, Clips],
) -> References:
    """The real recordings as a judge hears them, from the cache if they are there."""
    found = [
        cached_reference(
            name, key(name, judge, source), config.cache, partial(judge.extract, recorded)
        )
        for name, source, recorded in zip(("train", "held-out"), sources, clips, strict=True)
    ]
    return References(judge, *found)


def key(
    name: str, judge: SpeechClassifierJudge | VoiceJudge, source: SpeechDataset
) -> dict[str, Any]:
    """All that the features of a split depend on."""
    return {
        "split": name,
        "data": asdict(source.config),
        "fingerprint": source.fingerprint,
        "sample_rate": source.sample_rate,
        "extractor": judge.name,
        "extractor_sha256": judge.sha256,
    }


def heldout_set(scoring: SpeechScoring) -> ScoredSet:
    """The held-out recordings, by the features that the references hold."""
    found: list[Features | None] = [
        None if isinstance(side, str) else side.heldout.features
        for side in (scoring.classifier, scoring.voices)
    ]
    return ScoredSet(scoring.heldout, *found)


def provenance(
    config: ScoreSpeechConfig,
    scoring: SpeechScoring,
    sources: tuple[SpeechDataset, SpeechDataset],
    sampling: dict[str, Any] | None,
) -> dict[str, Any]:
    """All that the numbers depend on."""
    sides = [s for s in (scoring.classifier, scoring.voices) if not isinstance(s, str)]
    others = [judge for judge in (scoring.whisper, scoring.utmos) if not isinstance(judge, str)]
    parts = zip(("train", "held-out"), sources, (scoring.train, scoring.heldout), strict=True)
    references: dict[str, Any] = {
        name: {
            "count": len(clips),
            "not_decoded": len(clips.bad),
            "data_fingerprint": source.fingerprint,
            "conversions": source.conversions(),
        }
        for name, source, clips in parts
    }
    return {
        "config": to_plain(config),
        "extractors": {
            judge.name: judge.sha256 for judge in [*(side.judge for side in sides), *others]
        },
        "references": references,
        "statistics_sha256": {side.name: statistics_of(side) for side in sides},
        "tokenizer_sha256": sha256(config.tokenizer / "model.safetensors"),
        "samples_sha256": config.samples and samples_sha256(config.samples),
        "sampling": sampling and summary(sampling),
        "environment": environment(),
        "packages": {name: found for name in JUDGES if (found := version_of(name))},
    }


def summary(sampling: dict[str, Any]) -> dict[str, Any]:
    """sample.json, its longest entries in short."""
    labels, speakers = sampling["labels"], sampling["speakers"]
    return sampling | {
        "labels": labels and dict(sorted(Counter(labels).items())),
        "speakers": speakers and dict(sorted(Counter(speakers).items())),
        "seeds": compact(sampling["seeds"]),
    }


def statistics_of(side: References) -> dict[str, str]:
    """The SHA-256 of each reference's statistics."""
    both: tuple[Reference, ...] = (side.train, side.heldout)
    return {real.name: real.sha256 for real in both}


def samples_sha256(folder: Path) -> str:
    """The SHA-256 of the hashes of all samples, in order."""
    return hashlib.sha256("".join(map(sha256, sample_paths(folder))).encode()).hexdigest()


def version_of(package: str) -> str | None:
    """The installed version, None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
