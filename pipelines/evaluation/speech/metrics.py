"""How close single clips are to their originals, and how good they sound by themselves."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, stdev
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.extras import Extra
from common.seeding import generator_at
from pipelines.evaluation.config import Voicing
from pipelines.evaluation.features import Extractor
from pipelines.evaluation.speech.data import Clips, spoken, words_said
from pipelines.evaluation.speech.extractors import Whisper
from pipelines.evaluation.speech.packages import (
    NARROW,
    WIDE,
    MissingPackageError,
    package,
    resampled,
)
from pipelines.evaluation.table import Metric, Unavailable, metric
from stage1_tokenizer.speech.data import decibels

torchaudio = Extra("torchaudio")

T = TypeVar("T")
SILENT_DB = -80.0
"""A clip below this root mean square, about that of 16-bit rounding, is silent."""
LEAST_STOI = 1e-4
"""pystoi answers 1e-5 where less than 0.4 s are left once it has removed the pauses."""
VOICE_HZ = (65.0, 500.0)
"""Range of the pitch."""
FRAME_SECONDS = 0.01
"""Time between two voicing decisions."""
PYIN_SECONDS = 0.064
"""Length of the frame on which pyin bases one decision."""
PAUSE = 3200
"""Zeros around a clip at 16 kHz, in which pocketsphinx adapts to the noise."""
LONGEST = 30
"""Seconds that Whisper takes of a clip; longer ones are left out."""


def pesq(
    original: Float[Tensor, " t"],
    rebuilt: Float[Tensor, " t"],
    rate: int,
    band: Literal["wb", "nb"],
) -> float | None:
    """PESQ of a reconstruction, None where either is silent or too short for it to find speech in."""
    module = package("pesq", "pesq, with a C compiler at hand")
    wanted = WIDE if band == "wb" else NARROW
    if min(decibels(original), decibels(rebuilt)) < SILENT_DB:
        return None
    pair = [resampled(waveform, rate, wanted) for waveform in (original, rebuilt)]
    try:
        return float(module.pesq(wanted, *pair, band))
    except (module.NoUtterancesError, module.BufferTooShortError):
        return None


def stoi(original: Float[Tensor, " t"], rebuilt: Float[Tensor, " t"], rate: int) -> float | None:
    """STOI of a reconstruction, None where the original is silent or has under 0.4 s of speech."""
    module = package("pystoi")
    if decibels(original) < SILENT_DB:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of too few frames: it is left out
        value = float(module.stoi(original.cpu().numpy(), rebuilt.float().cpu().numpy(), rate))
    return None if 0 < value < LEAST_STOI else value


def voiced(waveform: Float[Tensor, " t"], rate: int, voicing: Voicing) -> Bool[np.ndarray, " n"]:
    """Whether there is voice, every 10 ms, by one detector."""
    low, high = VOICE_HZ
    if voicing == "pyin":
        _, flags, _ = package("librosa").pyin(
            resampled(waveform, rate, rate),
            fmin=low,
            fmax=high,
            sr=rate,
            frame_length=2 ** round(math.log2(PYIN_SECONDS * rate)),
            hop_length=round(FRAME_SECONDS * rate),
        )
        return flags
    torchcrepe = package("torchcrepe")
    pitch, periodicity = torchcrepe.predict(
        torch.from_numpy(resampled(waveform, rate, WIDE))[None],
        WIDE,
        hop_length=round(FRAME_SECONDS * WIDE),
        fmin=low,
        fmax=high,
        model="full",
        return_periodicity=True,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    return ~torch.isnan(torchcrepe.threshold.Hysteresis()(pitch, periodicity))[0].cpu().numpy()


def voicing_f1(
    original: Float[Tensor, " t"], rebuilt: Float[Tensor, " t"], rate: int, voicing: Voicing
) -> float | None:
    """F1 of the reconstruction's voiced frames, None where neither has any."""
    truth, guess = (voiced(waveform, rate, voicing) for waveform in (original, rebuilt))
    both = int((truth & guess).sum())
    either = int(truth.sum()) + int(guess.sum())
    return 2 * both / either if either else None


def dnsmos(waveform: Float[Tensor, " t"], rate: int) -> tuple[float, float] | None:
    """DNSMOS's overall (P.835) and P.808 opinions, None for silence."""
    module = package("speechmos.dnsmos")
    if decibels(waveform) < SILENT_DB:
        return None
    opinions = module.run(resampled(waveform, rate, WIDE), sr=WIDE)
    return float(opinions["ovrl_mos"]), float(opinions["p808_mos"])


def recognised(clips: Clips) -> Iterator[float]:
    """1 for each clip in which pocketsphinx, which knows only the labels, finds its label, else 0.

    Raises MissingPackageError where pocketsphinx, or a label in its dictionary, is missing.
    """
    words = spoken(clips.classes)
    decoder = package("pocketsphinx").Decoder(lm=None, samprate=WIDE, loglevel="FATAL")
    unknown = [word for word in words if not word.isalpha() or decoder.lookup_word(word) is None]
    if unknown:
        raise MissingPackageError(f"pocketsphinx has no such word: {', '.join(unknown[:3])}")
    decoder.add_jsgf_string(
        "labels", f"#JSGF V1.0; grammar labels; public <label> = {' | '.join(words)};"
    )
    decoder.activate_search("labels")
    for clip, label in zip(clips.waveforms, clips.labels.tolist(), strict=True):
        samples = np.pad(resampled(clip, clips.sample_rate, WIDE), PAUSE)
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        yield float(hypothesis is not None and hypothesis.hypstr == words[label])


def over_clips(
    values: Iterable[float | None], missing: str = "", extractor: Extractor | None = None
) -> Metric | Unavailable:
    """The mean over the clips that have a value, and how many have none; `missing` says why.

    Unavailable where no clip has one, or computing them raises MissingPackageError.
    """
    try:
        everyone = list(values)
    except MissingPackageError as error:
        return Unavailable(str(error))
    present = [value for value in everyone if value is not None]
    if not present:
        return Unavailable(f"none of {len(everyone)} clips has a value: {missing}")
    note = "mean ± standard deviation over the clips"
    if len(present) < len(everyone):
        note += f"; {len(everyone) - len(present)} of {len(everyone)} left out: {missing}"
    return metric(
        value=fmean(present),
        spread=stdev(present) if len(present) > 1 else None,
        count=len(present),
        note=note,
        extractor=None if extractor is None else extractor.name,
        extractor_sha256=None if extractor is None else extractor.sha256,
    )


def word_error_rate(
    whisper: Whisper | Unavailable, clips: Clips, count: int
) -> Metric | Unavailable:
    """Wrong, missing and added words as a share of all that are said in `count` of the clips.

    Clips without a text, and those longer than Whisper takes, are left out.
    """
    texts = words_said(clips)
    if not texts:
        return Unavailable("the clips have neither texts nor labels")
    if isinstance(whisper, Unavailable):
        return whisper
    chosen = evenly_chosen([*zip(clips.waveforms, texts, strict=True)], count)
    pairs = [
        (waveform, text)
        for waveform, text in chosen
        if text and len(waveform) <= LONGEST * clips.sample_rate
    ]
    transcripts = whisper.transcribe([waveform for waveform, _ in pairs], clips.sample_rate)
    errors, words = word_errors(
        [whisper.normalised(text) for _, text in pairs], [*map(whisper.normalised, transcripts)]
    )
    if words == 0:
        return Unavailable(f"none of {len(chosen)} clips has words in at most {LONGEST} s")
    note = f"{errors:,} errors in {words:,} words, as Whisper's normalizer of English writes them"
    if len(pairs) < len(chosen):
        left_out = len(chosen) - len(pairs)
        note += (
            f"; {left_out} of {len(chosen)} left out: without a text, or longer than {LONGEST} s"
        )
    return metric(
        value=errors / words,
        count=len(pairs),
        note=note,
        extractor=whisper.name,
        extractor_sha256=whisper.sha256,
    )


def word_errors(texts: Sequence[str], transcripts: Sequence[str]) -> tuple[int, int]:
    """How many words are wrong, missing or added in all, and how many there are in the texts."""
    pairs = [(text.split(), guess.split()) for text, guess in zip(texts, transcripts, strict=True)]
    distance = torchaudio.functional.edit_distance
    return sum(distance(*pair) for pair in pairs), sum(len(text) for text, _ in pairs)


def evenly_chosen(clips: list[T], count: int) -> list[T]:
    """At most `count` of the clips, one at random from each of as many equal parts.

    Neighbours are often alike; and of samples every tenth may have the same label, so that no fixed stride is taken.
    """
    count = min(count, len(clips))
    chances = torch.rand(count, generator=generator_at(0, 0), dtype=torch.float64)
    places = (torch.arange(count) + chances) * len(clips) / max(count, 1)
    return [clips[int(place)] for place in places]
