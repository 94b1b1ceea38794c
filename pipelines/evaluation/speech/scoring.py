"""What is measured of recordings clip by clip: closeness to originals, sound, labels."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from pipelines.evaluation.fidelity import Features, Reference
from pipelines.evaluation.speech.data import Clips
from pipelines.evaluation.speech.extractors import (
    SpeechClassifierJudge,
    UtmosJudge,
    VoiceJudge,
    recognised,
    similarity,
)
from pipelines.evaluation.speech.metrics import (
    NARROW,
    WIDE,
    Voicing,
    dnsmos,
    mel_distance,
    over_clips,
    pesq,
    stoi,
    voicing_f1,
)
from pipelines.evaluation.speech.transcription import WhisperJudge, word_error_rate, words_said
from pipelines.evaluation.table import Number
from stage1_tokenizer.speech.losses import MelDistance

T = TypeVar("T")
UNLABELLED = "the recordings have no labels"
PESQ_WB, PESQ_NB = f"PESQ (wide-band, {WIDE} Hz)", f"PESQ (narrow-band, {NARROW} Hz)"


@dataclass(frozen=True)
class References:
    """One judge of features, and the real recordings as it hears them."""

    judge: SpeechClassifierJudge | VoiceJudge
    train: Reference
    heldout: Reference

    @property
    def name(self) -> str:
        return self.judge.name


@dataclass(frozen=True)
class SpeechScoring:
    """What recordings are scored with."""

    classifier: References | str
    """Or the reason why there is none; so for the next."""
    voices: References | str
    whisper: WhisperJudge | str
    utmos: UtmosJudge | str
    train: Clips
    heldout: Clips
    voicing: Voicing
    slow_count: int

    def some(self, clips: list[T]) -> list[T]:
        """Those that the slow metrics are computed on, spread over all: neighbours are often alike."""
        return clips[:: -(-len(clips) // self.slow_count)]


@dataclass(frozen=True)
class ScoredSet:
    """SpeechDataset, and what the judges make of them."""

    clips: Clips
    by_classifier: Features | None
    by_voices: Features | None


def judged(scoring: SpeechScoring, clips: Clips) -> ScoredSet:
    """The features of a set by every judge there is."""
    found = [
        None if isinstance(side, str) else side.judge.extract(clips)
        for side in (scoring.classifier, scoring.voices)
    ]
    return ScoredSet(clips, *found)


def closeness(scoring: SpeechScoring, made: ScoredSet, originals: ScoredSet) -> dict[str, Number]:
    """How close reconstructions are to their originals, clip by clip."""
    rate = made.clips.sample_rate
    pairs = [*zip(originals.clips.waveforms, made.clips.waveforms, strict=True)]
    quiet = "silent, or too short for PESQ to find speech in"
    wide = Number(value=None, reason=f"a tokenizer of {rate} Hz has no band up to 8 kHz")
    if rate >= WIDE:
        wide = over_clips(lambda: (pesq(a, b, rate, "wb") for a, b in pairs), quiet)
    mel = MelDistance(rate)
    voicing = Number(value=None, reason="voicing=none: set voicing to pyin or crepe")
    if scoring.voicing != "none":
        some = scoring.some(pairs)
        voicing = over_clips(
            lambda: (voicing_f1(a, b, rate, scoring.voicing) for a, b in some),
            "no voice in original or reconstruction",
        )
    return {
        PESQ_WB: wide,
        PESQ_NB: over_clips(lambda: (pesq(a, b, rate, "nb") for a, b in pairs), quiet),
        "STOI": over_clips(
            lambda: (stoi(a, b, rate) for a, b in pairs), "silent, or under 0.4 s of speech"
        ),
        "mel distance (7 scales)": over_clips(
            lambda: (mel_distance(mel, a, b) for a, b in pairs), "too short"
        ),
        f"V/UV F1 ({scoring.voicing})": voicing,
        "speaker similarity to the original": likeness(
            scoring, embeddings(made), embeddings(originals)
        ),
    }


def sound(scoring: SpeechScoring, scored: ScoredSet) -> dict[str, Number]:
    """What can be said of each recording without another: opinions, labels, duration."""
    clips = scored.clips
    opinions: list[tuple[float, float] | None] = []

    def listen() -> Iterable[float | None]:
        opinions.extend(dnsmos(clip, clips.sample_rate) for clip in scoring.some(clips.waveforms))
        return [opinion and opinion[0] for opinion in opinions]

    overall = over_clips(listen, "silent")
    by_crowd = overall
    if opinions:
        by_crowd = over_clips(lambda: [opinion and opinion[1] for opinion in opinions], "silent")
    return {
        "DNSMOS (P.835, overall)": overall,
        "DNSMOS (P.808)": by_crowd,
        "UTMOS": utmos_opinions(scoring, clips),
        "label accuracy (classifier)": classifier_accuracy(scoring, scored),
        "label accuracy (pocketsphinx)": recogniser_accuracy(clips),
        "word error rate (Whisper)": wrong_words(scoring, clips),
        "duration (s)": over_clips(lambda: clips.seconds, ""),
    }


def embeddings(scored: ScoredSet) -> Tensor | None:
    """What the network of voices says of a set, if there is one."""
    return None if scored.by_voices is None else scored.by_voices.features


def likeness(scoring: SpeechScoring, voices: Tensor | None, others: Tensor | None) -> Number:
    """The mean cosine of pairs of resemblyzer's embeddings, or why it can't be said."""
    if isinstance(scoring.voices, str) or voices is None or others is None:
        return Number(value=None, reason=str(scoring.voices))
    found = over_clips(lambda: similarity(voices, others), "")
    return replace(
        found, extractor=scoring.voices.name, extractor_sha256=scoring.voices.judge.sha256
    )


def classifier_accuracy(scoring: SpeechScoring, scored: ScoredSet) -> Number:
    """Share of the clips that the classifier gives their label, or why it can't be said."""
    side, found = scoring.classifier, scored.by_classifier
    if isinstance(side, str) or found is None:
        return Number(value=None, reason=str(side))
    if not scored.clips.classes:
        return Number(value=None, reason=UNLABELLED)
    assert isinstance(side.judge, SpeechClassifierJudge)
    if scored.clips.classes != side.judge.model.config.classes:
        return Number(value=None, reason="the classifier was trained on other classes")
    right = found.logits.argmax(1) == found.labels
    return Number(
        value=float(right.double().mean()),
        count=len(right),
        extractor=side.name,
        extractor_sha256=side.judge.sha256,
    )


def recogniser_accuracy(clips: Clips) -> Number:
    """Share of the clips in which pocketsphinx hears their label, or why it can't be said."""
    if not clips.classes:
        return Number(value=None, reason=UNLABELLED)
    found = over_clips(lambda: recognised(clips), "")
    if found.value is None:
        return found
    return replace(found, spread=None, note="pocketsphinx with a grammar of the labels alone")


def utmos_opinions(scoring: SpeechScoring, clips: Clips) -> Number:
    """The mean opinion of UTMOS over some of the clips, or why it can't be said."""
    judge = scoring.utmos
    if isinstance(judge, str):
        return Number(value=None, reason=judge)
    some = scoring.some(clips.waveforms)
    found = over_clips(lambda: (judge.opinion(clip, clips.sample_rate) for clip in some), "")
    return replace(found, extractor=judge.name, extractor_sha256=judge.sha256)


def wrong_words(scoring: SpeechScoring, clips: Clips) -> Number:
    """Whisper's word error rate over some of the clips, or why it can't be said."""
    texts = words_said(clips)
    if not texts:
        return Number(value=None, reason="the recordings have neither texts nor labels")
    said = scoring.some([*zip(clips.waveforms, texts, strict=True)])
    return word_error_rate(scoring.whisper, said, clips.sample_rate)
