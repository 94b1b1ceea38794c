"""Judges that the user names: word errors by a tiny random Whisper, opinions of known answers, faults."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from pipelines.evaluation.speech.data import Clips
from pipelines.evaluation.speech.extractors import UtmosJudge
from pipelines.evaluation.speech.scoring import SpeechScoring, utmos_opinions, wrong_words
from pipelines.evaluation.speech.transcription import (
    WhisperJudge,
    whisper_judge,
    word_error_rate,
    word_errors,
    words_said,
)

RATE = 8000
MARKS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|translate|>",
    "<|notimestamps|>",
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[False, True], ids=["English alone", "many languages"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights that writes bytes."""
    letters = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab=letters, merges=[])
    tokenizer.add_tokens(list(MARKS), special_tokens=True)
    end, start, english, transcribe, translate, untimed = tokenizer.convert_tokens_to_ids(
        list(MARKS)
    )
    sizes: dict[str, Any] = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            **sizes, vocab_size=len(tokenizer), d_model=16, num_mel_bins=80,
            max_target_positions=16, decoder_start_token_id=start, bos_token_id=end,
            eos_token_id=end, pad_token_id=end, suppress_tokens=[], begin_suppress_tokens=[],
        )
    )  # fmt: skip
    if request.param:
        model.generation_config.is_multilingual = True
        model.generation_config.lang_to_id = {"<|en|>": english}
        model.generation_config.task_to_id = {"transcribe": transcribe, "translate": translate}
        model.generation_config.no_timestamps_token_id = untimed
    found = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(found)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(found)
    return found


def recordings(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(1000 + 500 * i, generator=generator) for i in range(count)]


@pytest.mark.parametrize(
    ("texts", "heard", "errors", "words"),
    [
        (["the cat sat"], ["the cat sat"], 0, 3),
        (["the cat sat"], ["a cat sat down"], 2, 3),
        (["the cat sat", "no"], ["", "no no no"], 5, 4),
        ([""], ["hello"], 1, 0),
    ],
)
def test_errors_are_substitutions_deletions_and_insertions(
    texts: list[str], heard: list[str], errors: int, words: int
) -> None:
    assert word_errors(texts, heard) == (errors, words)


def test_case_marks_and_ways_to_write_numbers_are_no_errors(folder: Path) -> None:
    judge = WhisperJudge(str(folder), CPU)
    assert judge.normalised("It's Twenty-One, Mr. Smith!") == "it is 21 mister smith"
    assert judge.normalised("seven") == judge.normalised(" 7.")


def test_recordings_are_heard_alike_alone_and_together(folder: Path) -> None:
    judge = WhisperJudge(str(folder), CPU)
    clips = recordings(3)
    together = judge.heard(clips, RATE)
    assert together == [judge.heard([clip], RATE)[0] for clip in clips]
    assert not any(mark in text for mark in MARKS for text in together)
    assert all(text for text in together)


def test_the_rate_is_that_of_all_words_together(folder: Path) -> None:
    judge = WhisperJudge(str(folder), CPU)
    clips = recordings(2)
    heard = judge.heard(clips, RATE)
    guesses = [judge.normalised(text) for text in heard]
    number = word_error_rate(judge, [*zip(clips, ["one two", "three"], strict=True)], RATE)
    errors, words = word_errors(["1 2", "3"], guesses)
    assert words == 3 and number.value == errors / 3 and number.count == 2
    assert number.extractor == str(folder) and len(number.extractor_sha256 or "") == 64
    long = [(torch.zeros(30 * RATE + 1), "one"), (clips[0], "two")]
    found = word_error_rate(judge, long, RATE)
    assert found.count == 1 and "1 of 2 counted out: longer than 30 s" in str(found.note)
    for said in (long[:1], [(clips[0], "")]):
        assert "clips has words" in str(word_error_rate(judge, said, RATE).reason)


def test_of_a_set_slow_count_clips_are_heard(folder: Path) -> None:
    judge = WhisperJudge(str(folder), CPU)
    labels = torch.zeros(5).long()
    clips = Clips(recordings(5), RATE, labels, labels, labels, ("one",), ())
    number = wrong_words(SpeechScoring("", "", judge, "", clips, clips, "none", 2), clips)
    assert number.count == 2 and number.value is not None and "in 2 words" in str(number.note)
    mute = replace(clips, classes=())
    reason = wrong_words(SpeechScoring("", "", judge, "", mute, mute, "none", 2), mute).reason
    assert reason == "the recordings have neither texts nor labels"


def test_what_is_said_is_the_text_or_else_the_label() -> None:
    labels = torch.tensor([1, 0])
    two = Clips(recordings(2), RATE, labels, labels, labels, ("0", "left"), ())
    assert words_said(two) == ["left", "zero"]
    assert words_said(replace(two, texts=("Hi!", "you"))) == ["Hi!", "you"]
    assert words_said(replace(two, classes=())) == []


def test_a_model_that_is_missing_or_broken_is_a_dash_that_names_the_key(
    folder: Path, tmp_path: Path
) -> None:
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    for path in folder.iterdir():
        (lacking / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.encoder.conv1.weight")
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    cut = tmp_path / "cut"
    cut.mkdir()
    for path in folder.iterdir():
        (cut / path.name).write_bytes(path.read_bytes()[:1000])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for path in folder.iterdir():
        name = path.name.replace("model.safetensors", "pytorch_model.bin")
        (pickled / name).write_bytes(path.read_bytes())
    for name in (None, str(tmp_path / "nowhere"), str(lacking), str(cut), str(pickled)):
        reason = whisper_judge(name, CPU)
        assert isinstance(reason, str) and "set whisper" in reason and "\n" not in reason
        assert word_error_rate(reason, [], RATE).reason == reason


class Loudness(torch.nn.Module):
    """A network of opinions with a known answer: 1, and the greatest sample."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return 1 + waveforms.abs().amax(1)


class NoOpinion(torch.nn.Module):
    """A network that answers with as many numbers as it hears."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return waveforms


def test_opinions_are_the_mean_over_slow_count_clips(tmp_path: Path) -> None:
    torch.jit.script(Loudness()).save(tmp_path / "loudness.pt")
    judge = UtmosJudge(tmp_path / "loudness.pt", torch.device("cpu"))
    none = torch.zeros(4).long()
    clips = Clips(
        [torch.full((size,), size / 1000) for size in (100, 200, 300, 400)], 16_000, none, none,
        none, (), (),
    )  # fmt: skip
    number = utmos_opinions(SpeechScoring("", "", "", judge, clips, clips, "none", 2), clips)
    assert number.value == pytest.approx(1 + (0.1 + 0.3) / 2) and number.count == 2
    assert (number.extractor, number.extractor_sha256) == ("loudness.pt", judge.sha256)


def test_a_network_of_opinions_that_is_none_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a network")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "pickle.pt")
    for name in ("nowhere.pt", "text.pt", "pickle.pt"):
        with pytest.raises(ValueError, match="set utmos") as caught:
            UtmosJudge(tmp_path / name, torch.device("cpu"))
        assert "\n" not in str(caught.value)
    torch.jit.script(NoOpinion()).save(tmp_path / "none.pt")
    torch.jit.script(torch.nn.Linear(3, 1)).save(tmp_path / "linear.pt")
    for name in ("none.pt", "linear.pt"):
        judge = UtmosJudge(tmp_path / name, torch.device("cpu"))
        with pytest.raises(ValueError, match="set utmos"):
            judge.opinion(torch.zeros(50), 16_000)
