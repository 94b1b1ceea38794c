"""Known answers of the metrics of single clips, and what is left out."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.clips import RATE, clips_of, noises
from helpers.features import CPU

from pipelines.evaluation.speech.data import Clips, spoken
from pipelines.evaluation.speech.extractors import Whisper
from pipelines.evaluation.speech.metrics import (
    evenly_chosen,
    over_clips,
    pesq,
    recognised,
    stoi,
    voicing_f1,
    word_error_rate,
    word_errors,
)
from pipelines.evaluation.speech.packages import package
from pipelines.evaluation.table import Metric, Unavailable
from stage1_tokenizer.speech.spoken_digits import WORDS

needs_pesq = pytest.mark.skipif(find_spec("pesq") is None, reason="pesq is not installed")


@needs_pesq
def test_pesq_of_identical_clips_is_its_maximum(word: torch.Tensor) -> None:
    assert pesq(word, word, 16_000, "wb") == pytest.approx(4.644, abs=1e-3)
    assert pesq(word, word, 16_000, "nb") == pytest.approx(4.549, abs=1e-3)


@needs_pesq
def test_noise_lowers_pesq_and_stoi(word: torch.Tensor) -> None:
    noise = torch.randn(len(word), generator=torch.Generator().manual_seed(0))
    pairs = [(word, word + level * noise) for level in (0.001, 0.1)]
    for values in ([pesq(*p, 16_000, "wb") for p in pairs], [stoi(*p, 16_000) for p in pairs]):
        assert values[0] > values[1] > 0


@needs_pesq
def test_pesq_on_silence_is_counted_out(word: torch.Tensor) -> None:
    silence = torch.zeros_like(word)
    assert pesq(silence, silence, 16_000, "wb") is None
    assert pesq(word, silence, 16_000, "wb") is None
    number = over_clips((pesq(a, a, 16_000, "wb") for a in (word, silence, word[:100])), "silent")
    assert number.value == pytest.approx(4.644, abs=1e-3) and number.count == 1
    assert number.note and "2 of 3 left out: silent" in number.note
    nothing = over_clips([pesq(silence, silence, 16_000, "nb")], "silent")
    assert nothing.value is None and nothing.reason


def test_stoi_of_identical_clips_is_one_and_of_short_or_silent_ones_is_none(
    word: torch.Tensor,
) -> None:
    assert stoi(word, word, 16_000) == pytest.approx(1, abs=1e-6)
    assert stoi(word[:1600], word[:1600], 16_000) is None
    assert stoi(0 * word, word, 16_000) is None


def test_a_missing_package_is_a_dash_with_its_reason() -> None:
    number = over_clips(float(package(name).x) for name in ["no_such_module"])
    assert number.value is None and "no_such_module can't be imported" in str(number.reason)


def test_pocketsphinx_hears_digits(heldout: Clips) -> None:
    pytest.importorskip("pocketsphinx")
    assert spoken(("0", "7", "left")) == ("zero", "seven", "left")
    clips = Clips(
        heldout.waveforms[:10],
        16_000,
        heldout.indices[:10],
        heldout.labels[:10],
        heldout.speakers[:10],
        WORDS,
        heldout.speaker_names,
    )
    assert sum(recognised(clips)) >= 5  # type: ignore[arg-type]


@pytest.mark.slow
def test_voicing_of_identical_clips_agrees(word: torch.Tensor) -> None:
    assert voicing_f1(word, word, 16_000, "pyin") == 1
    assert voicing_f1(0 * word, 0 * word, 16_000, "pyin") is None


@pytest.mark.parametrize(
    ("texts", "transcripts", "errors", "words"),
    [
        (["the cat sat"], ["the cat sat"], 0, 3),
        (["the cat sat"], ["a cat sat down"], 2, 3),
        (["the cat sat", "no"], ["", "no no no"], 5, 4),
        ([""], ["hello"], 1, 0),
    ],
)
def test_errors_are_substitutions_deletions_and_insertions(
    texts: list[str], transcripts: list[str], errors: int, words: int
) -> None:
    assert word_errors(texts, transcripts) == (errors, words)


def test_the_rate_is_that_of_all_words_together(whisper_folder: Path) -> None:
    whisper = Whisper(str(whisper_folder), CPU)
    waveforms = noises(2)
    guesses = [whisper.normalised(text) for text in whisper.transcribe(waveforms, RATE)]
    rate = word_error_rate(whisper, clips_of(waveforms, texts=("one two", "three")), 2)
    errors, words = word_errors(["1 2", "3"], guesses)
    assert isinstance(rate, Metric)
    assert words == 3 and rate.value == errors / 3 and rate.count == 2
    assert rate.extractor == str(whisper_folder) and len(rate.extractor_sha256 or "") == 64
    long = clips_of([torch.zeros(30 * RATE + 1), waveforms[0]], texts=("one", "two"))
    rate = word_error_rate(whisper, long, 2)
    assert isinstance(rate, Metric)
    assert rate.count == 1 and "left out: without a text, or longer than 30 s" in str(rate.note)
    rate = word_error_rate(whisper, clips_of(waveforms, texts=("one two", "")), 2)
    assert isinstance(rate, Metric)
    assert rate.value == word_errors(["1 2"], guesses[:1])[0] / 2 and rate.count == 1
    for clips in (clips_of([long.waveforms[0]], texts=("one",)), clips_of(noises(1), texts=("",))):
        assert "clips has words" in str(word_error_rate(whisper, clips, 1).reason)


def test_what_is_chosen_is_spread_over_all_and_not_of_one_label() -> None:
    """Samples go through the labels in turn: every tenth of ten labels would be of one."""
    chosen = evenly_chosen([*range(1000)], 100)
    assert [place // 10 for place in chosen] == [*range(100)]
    assert {place % 10 for place in chosen} == {*range(10)}
    assert evenly_chosen([*range(3)], 5) == [0, 1, 2] and evenly_chosen([], 5) == []


def test_of_a_set_slow_count_clips_are_transcribed(whisper_folder: Path) -> None:
    whisper = Whisper(str(whisper_folder), CPU)
    clips = clips_of(noises(5), classes=("one",))
    rate = word_error_rate(whisper, clips, 2)
    assert isinstance(rate, Metric)
    assert rate.count == 2 and rate.value is not None and "in 2 words" in str(rate.note)
    mute = word_error_rate(whisper, replace(clips, classes=()), 2)
    assert mute == Unavailable("the clips have neither texts nor labels")
