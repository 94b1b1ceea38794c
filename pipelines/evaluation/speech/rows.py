"""The rows of the score table for speech: real recordings, reconstructions, samples, and checks."""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from common.tracking import read_metrics
from pipelines.evaluation.fidelity import Features, distance, metric_name, nearest_distance
from pipelines.evaluation.images.rows import code_use
from pipelines.evaluation.speech.data import Clips
from pipelines.evaluation.speech.extractors import VoiceJudge, speaker_means
from pipelines.evaluation.speech.scoring import (
    References,
    ScoredSet,
    SpeechScoring,
    closeness,
    likeness,
    sound,
)
from pipelines.evaluation.table import Number, Row
from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.codebook_usage import code_counts


class SpeechReconstructor:
    """SpeechDataset through integers and back, and how often each code was chosen on the way."""

    def __init__(self, tokenizer: SpeechTokenizer, clips: Clips) -> None:
        self.tokenizer, self.originals = tokenizer, clips
        self.spec = tokenizer.quantizer.spec
        self.histogram = torch.zeros(sum(self.spec.sizes), dtype=torch.int64)

    @cached_property
    def clips(self) -> Clips:
        """The reconstructions, each exactly as long as its original."""
        return replace(self.originals, waveforms=[*map(self.rebuilt, self.originals.waveforms)])

    def rebuilt(self, waveform: Tensor) -> Tensor:
        """One reconstruction from its codes, which are counted; without codes, through the networks."""
        on_device = waveform[None].to(self.tokenizer.codebook.device)
        if not self.spec.has_codes:
            return self.tokenizer.reconstruct(on_device)[0].cpu()
        codes = self.tokenizer.encode(on_device)
        self.histogram += code_counts(codes[0].cpu(), self.spec)
        return self.tokenizer.decode(codes)[0, : len(waveform)].cpu()

    def numbers(self) -> dict[str, Number]:
        """How many codes were chosen how evenly, and what they cost; nothing where there are none."""
        if not self.spec.has_codes:
            return {}
        config = self.tokenizer.config
        bits = sum((size - 1).bit_length() for size in self.spec.sizes)
        return {
            "bitrate (kbps)": Number(
                value=config.codes_per_second * bits / 1000,
                note=f"{config.codes_per_second:g} positions per second of {bits} bits",
            ),
            **code_use(self.histogram, self.spec),
        }


def make_rows(
    scoring: SpeechScoring,
    reconstructor: SpeechReconstructor,
    real: ScoredSet,
    rebuilt: ScoredSet,
    made: ScoredSet | None,
    prior_run: Path | None,
) -> list[Row]:
    """The whole table, without samples for a tokenizer alone."""
    return [
        Row("ground truth", "held-out recordings as they are", sound(scoring, real)),
        Row(
            "reconstruction",
            "held-out recordings, encoded to integers and decoded: what the tokenizer loses",
            closeness(scoring, rebuilt, real)
            | reconstructor.numbers()
            | sound(scoring, rebuilt)
            | distances(scoring, rebuilt, "held-out")
            | distances(scoring, rebuilt, "train"),
        ),
        *(samples_row(scoring, found, prior_run) for found in [made] if found),
        Row(
            "held-out vs train",
            "held-out recordings in the place of samples: what a perfect prior and tokenizer would reach",
            as_set(scoring, real),
        ),
        Row(
            "train vs train",
            "the training recordings against themselves: 0 but for rounding, or the metric is broken",
            {
                f"{metric_name('FID', side.judge)} vs train": distance(
                    side.train.features, side.train, side.judge
                )
                for side in (scoring.classifier, scoring.voices)
                if not isinstance(side, str)
            },
        ),
    ]  # fmt: skip


def samples_row(scoring: SpeechScoring, made: ScoredSet, prior_run: Path | None) -> Row:
    """What the prior makes; its own number is read from the metrics of its run."""
    return Row(
        "samples",
        "what the prior makes",
        {"held-out bits per second of audio": heldout_bits(prior_run)}
        | sound(scoring, made)
        | as_set(scoring, made),
    )


def heldout_bits(prior_run: Path | None) -> Number:
    """What the saved prior pays for a second of held-out audio, as its run measured it, or why not."""
    if prior_run is None:
        return Number(
            value=None, reason="prior_run is not set: set prior_run to the prior's folder"
        )
    rows = [row for row in read_metrics(prior_run) if "heldout/bits_per_second" in row]
    rows = [row for row in rows if math.isfinite(row["heldout/nats_per_code"])]
    if not rows:
        reason = f"{prior_run}/metrics.jsonl has no heldout/bits_per_second: set prior_run"
        return Number(value=None, reason=reason)
    best = min(
        rows, key=lambda row: row["heldout/nats_per_code"]
    )  # of equal ones the first is saved
    over = "all held-out clips"
    if "heldout/clips" in best:
        over = f"{best['heldout/clips']:,} clips of {best['heldout/codes']:,} codes in all"
    return Number(
        value=best["heldout/bits_per_second"],
        count=best.get("heldout/clips"),
        note=f"the ends of clips are paid for too; at step {best['step']:,}, whose weights are saved, over {over}",
    )


def sides(
    scoring: SpeechScoring, scored: ScoredSet
) -> list[tuple[str, References | str, Features | None]]:
    """Each judge of features with its name, and what it says of a set."""
    found = []
    for name, side, features in (
        ("classifier", scoring.classifier, scored.by_classifier),
        (VoiceJudge.name, scoring.voices, scored.by_voices),
    ):
        found.append((name if isinstance(side, str) else side.name, side, features))
    return found


def distances(scoring: SpeechScoring, scored: ScoredSet, against: str) -> dict[str, Number]:
    """The Frechet distance to real recordings by each judge's features, or why there is none."""
    found = {}
    for name, side, features in sides(scoring, scored):
        if isinstance(side, str) or features is None:
            found[f"FD({name}) vs {against}"] = Number(value=None, reason=str(side))
        else:
            real = side.train if against == "train" else side.heldout
            key = f"{metric_name('FID', side.judge)} vs {against}"
            found[key] = distance(features, real, side.judge)
    return found


def as_set(scoring: SpeechScoring, scored: ScoredSet) -> dict[str, Number]:
    """How recordings that are no copies of others lie to the training recordings."""
    found = distances(scoring, scored, "train")
    for name, side, features in sides(scoring, scored):
        key = f"nearest train clip ({name})"
        if isinstance(side, str) or features is None:
            found[key] = Number(value=None, reason=str(side))
        else:
            found[key] = nearest_distance(features, side.train, side.judge)
    return found | {"speaker similarity to the speaker's mean": to_speakers(scoring, scored)}


def to_speakers(scoring: SpeechScoring, scored: ScoredSet) -> Number:
    """How like the mean training voice of their speakers recordings sound, or why it can't be said."""
    side, voices, clips = scoring.voices, scored.by_voices, scored.clips
    if isinstance(side, str) or voices is None:
        return Number(value=None, reason=str(side))
    if not clips.speaker_names:
        return Number(value=None, reason="the recordings name no speakers")
    # held-out speakers that training lacks have numbers after the others
    count = max(len(clips.speaker_names), len(scoring.train.speaker_names))
    means = speaker_means(side.train.features, scoring.train, count)
    known = means.norm(dim=1) > 0
    heard = known[clips.speakers]
    if not heard.any():
        return Number(value=None, reason="none of the speakers has training recordings")
    return likeness(scoring, voices.features[heard], means[clips.speakers[heard]])
