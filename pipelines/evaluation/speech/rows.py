"""The metrics of each row of the table for speech: of single clips, and of sets of them."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from common.tracking import read_metrics
from pipelines.evaluation.comparison import Comparison, distances, label_accuracies
from pipelines.evaluation.config import Voicing
from pipelines.evaluation.features import Features
from pipelines.evaluation.fidelity import audio_distance, metric_name, nearest_distance
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.speech.data import Clips
from pipelines.evaluation.speech.extractors import (
    SpeechExtractor,
    Utmos,
    VoiceExtractor,
    Whisper,
)
from pipelines.evaluation.speech.metrics import (
    dnsmos,
    evenly_chosen,
    over_clips,
    pesq,
    recognised,
    stoi,
    voicing_f1,
    word_error_rate,
)
from pipelines.evaluation.speech.packages import NARROW, WIDE, MissingPackageError
from pipelines.evaluation.table import Metric, Metrics, Unavailable, metric
from stage1_tokenizer.speech.losses import MelDistance

NO_VOICES = Unavailable(
    "resemblyzer is not installed: pip install --no-deps resemblyzer webrtcvad-wheels"
)
SpeechComparison = Comparison[SpeechExtractor]


@dataclass(frozen=True)
class ClipSet:
    """Clips, and what the extractors make of them."""

    clips: Clips
    by_extractor: tuple[SpeechComparison, ...]
    """One for each extractor, resemblyzer's last."""

    @property
    def by_voice(self) -> SpeechComparison | Unavailable:
        """The comparison by resemblyzer's network of voices, or why there is none."""
        last = self.by_extractor[-1]
        return last if last.real.extractor.name == VoiceExtractor.name else NO_VOICES


def closeness(originals: ClipSet, rebuilt: ClipSet, voicing: Voicing, slow_count: int) -> Metrics:
    """How close reconstructions are to their originals, clip by clip."""
    rate = rebuilt.clips.sample_rate
    pairs = [*zip(originals.clips.waveforms, rebuilt.clips.waveforms, strict=True)]
    quiet = "silent, or too short for PESQ to find speech in"
    wide: Metric | Unavailable = Unavailable(f"a tokenizer of {rate} Hz has no band up to 8 kHz")
    if rate >= WIDE:
        wide = over_clips((pesq(a, b, rate, "wb") for a, b in pairs), quiet)
    voice: Metric | Unavailable = Unavailable("voicing=none: set voicing to pyin or crepe")
    if voicing != "none":
        voice = over_clips(
            (voicing_f1(a, b, rate, voicing) for a, b in evenly_chosen(pairs, slow_count)),
            "no voice in original or reconstruction",
        )
    mel = MelDistance(rate)
    return {
        f"PESQ (wide-band, {WIDE} Hz)": wide,
        f"PESQ (narrow-band, {NARROW} Hz)": over_clips(
            (pesq(a, b, rate, "nb") for a, b in pairs), quiet
        ),
        "STOI": over_clips(
            (stoi(a, b, rate) for a, b in pairs), "silent, or under 0.4 s of speech"
        ),
        "mel distance (7 scales)": over_clips(float(mel(b[None], a[None])) for a, b in pairs),
        f"V/UV F1 ({voicing})": voice,
        "speaker similarity to the original": likeness(rebuilt.by_voice, originals.by_voice),
    }


def likeness(
    a: SpeechComparison | Unavailable, b: SpeechComparison | Unavailable
) -> Metric | Unavailable:
    """The mean cosine of pairs of clips, by their voices."""
    if isinstance(a, Unavailable):
        return a
    if isinstance(b, Unavailable):
        return b
    cosines = F.cosine_similarity(a.features.features, b.features.features)
    return over_clips(cosines.tolist(), extractor=a.real.extractor)


def sound(
    scored: ClipSet, utmos: Utmos | Unavailable, whisper: Whisper | Unavailable, slow_count: int
) -> Metrics:
    """What can be said of each clip without another: opinions, labels, duration."""
    clips = scored.clips
    return {
        **dnsmos_opinions(clips, slow_count),
        "UTMOS": utmos_opinion(utmos, clips, slow_count),
        **label_accuracies(scored.by_extractor, clips.classes, "label accuracy (classifier)"),
        "label accuracy (pocketsphinx)": recogniser_accuracy(clips),
        "word error rate (Whisper)": word_error_rate(whisper, clips, slow_count),
        "duration (s)": over_clips(clips.seconds),
    }


def dnsmos_opinions(clips: Clips, slow_count: int) -> Metrics:
    """The means of DNSMOS's two opinions."""
    names = "DNSMOS (P.835, overall)", "DNSMOS (P.808)"
    waveforms = evenly_chosen(clips.waveforms, slow_count)
    try:
        opinions = [dnsmos(waveform, clips.sample_rate) for waveform in waveforms]
    except MissingPackageError as error:
        return dict.fromkeys(names, Unavailable(str(error)))
    return {
        name: over_clips((pair and pair[i] for pair in opinions), "silent")
        for i, name in enumerate(names)
    }


def utmos_opinion(
    utmos: Utmos | Unavailable, clips: Clips, slow_count: int
) -> Metric | Unavailable:
    """The mean opinion of UTMOS."""
    if isinstance(utmos, Unavailable):
        return utmos
    waveforms = evenly_chosen(clips.waveforms, slow_count)
    opinions = (utmos.opinion(waveform, clips.sample_rate) for waveform in waveforms)
    return over_clips(opinions, extractor=utmos)


def recogniser_accuracy(clips: Clips) -> Metric | Unavailable:
    """Share of the clips in which pocketsphinx finds their label."""
    if not clips.classes:
        return Unavailable("there are no labels")
    accuracy = over_clips(recognised(clips))
    if isinstance(accuracy, Unavailable):
        return accuracy
    return replace(
        accuracy, spread=None, unit="%", note="pocketsphinx with a grammar of the labels alone"
    )


def bitrate(reconstructor: Reconstructor) -> Metrics:
    """What the codes cost; nothing where there are none."""
    if not reconstructor.spec.has_codes:
        return {}
    rate = reconstructor.tokenizer.config.codes_per_second
    bits = sum((size - 1).bit_length() for size in reconstructor.spec.sizes)
    note = f"{rate:g} positions per second of {bits} bits"
    return {"bitrate (kbps)": metric(value=rate * bits / 1000, note=note)}


def heldout_bits(prior_run: Path | None) -> Metric | Unavailable:
    """The saved prior's bits per second of the validation clips, from its run's log; they also chose its weights."""
    if prior_run is None:
        return Unavailable("prior_run is not set: set prior_run to the prior's folder")
    lines = [line for line in read_metrics(prior_run) if "heldout/bits_per_second" in line]
    lines = [line for line in lines if math.isfinite(line["heldout/nats_per_code"])]
    if not lines:
        return Unavailable(
            f"{prior_run}/metrics.jsonl has no heldout/bits_per_second: set prior_run"
        )
    best = min(lines, key=lambda line: line["heldout/nats_per_code"])  # the first of equal ones
    over = "all validation clips"
    if "heldout/clips" in best:
        over = (
            f"{best['heldout/clips']:,} validation clips of {best['heldout/codes']:,} codes in all"
        )
    return metric(
        value=best["heldout/bits_per_second"],
        count=best.get("heldout/clips"),
        note=f"includes the ends of clips; at step {best['step']:,}, the best, whose weights are saved; "
        f"over {over}",
    )


def to_train(scored: ClipSet, seed: int) -> Metrics:
    """The Frechet distance to the training clips, FAD's formula, and KAD's, by each extractor's features."""
    return distances(scored.by_extractor, "train") | {
        metric_name("KAD", each.real.extractor, "train"): audio_distance(
            each.features, each.real.train, each.real.extractor, seed
        )
        for each in scored.by_extractor
    }


def as_set(scored: ClipSet, train: Clips, seed: int) -> Metrics:
    """Metrics of samples and of real clips only, against the training clips."""
    metrics = to_train(scored, seed)
    for each in scored.by_extractor:
        extractor = each.real.extractor
        metrics[f"nearest train clip ({extractor.name})"] = nearest_distance(
            each.features, each.real.train, extractor
        )
    return metrics | {"speaker similarity to the speaker's mean": to_speakers(scored, train)}


def to_speakers(scored: ClipSet, train: Clips) -> Metric | Unavailable:
    """The mean cosine between clips and the mean training voice of their speakers."""
    voices, clips = scored.by_voice, scored.clips
    if isinstance(voices, Unavailable):
        return voices
    if not clips.speaker_names:
        return Unavailable("the clips name no speakers")
    shared = zip(clips.speaker_names, train.speaker_names, strict=False)
    if any(own != trained for own, trained in shared):
        return Unavailable("the samples' speakers are not those of the training clips")
    # held-out speakers that training lacks have indices after the others
    count = max(len(clips.speaker_names), len(train.speaker_names))
    means = speaker_means(voices.real.train.features, train, count)
    trained = (means.norm(dim=1) > 0)[clips.speakers]
    if not trained.any():
        return Unavailable("none of the speakers has training clips")
    own = voices.features.features[trained]
    cosines = F.cosine_similarity(own, means[clips.speakers[trained]])
    return over_clips(cosines.tolist(), extractor=voices.real.extractor)


def speaker_means(voices: Features, clips: Clips, count: int) -> Tensor:
    """The mean embedding of each of `count` speakers; zero for one without clips."""
    sums = torch.zeros(count, voices.features.shape[1])
    return F.normalize(sums.index_add(0, clips.speakers, voices.features), dim=1)
