"""Scoring speech: known answers of the metrics, what is counted out, and a whole score."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.speech_runs import few_digits

from common.hub import sha256
from pipelines.evaluation.fidelity import Features, Reference, distance, statistics
from pipelines.evaluation.score import finished, score, score_table
from pipelines.evaluation.speech.classifier import (
    SpeechClassifier,
    SpeechClassifierConfig,
    TrainSpeechClassifierConfig,
    padded,
    train_speech_classifier,
)
from pipelines.evaluation.speech.data import Clips, recorded_clips, sampled_clips, spoken
from pipelines.evaluation.speech.evaluation import ScoreSpeechConfig
from pipelines.evaluation.speech.extractors import recognised, speaker_means
from pipelines.evaluation.speech.metrics import over_clips, package, pesq, stoi, voicing_f1
from pipelines.evaluation.speech.rows import heldout_bits
from stage1_tokenizer import SpeechTokenizer, SpeechTokenizerConfig
from stage1_tokenizer.quantizers import ContinuousConfig, SimVQConfig
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.speech.spoken_digits import WORDS

RATE = 8000
needs_pesq = pytest.mark.skipif(find_spec("pesq") is None, reason="pesq is not installed")


@pytest.fixture(scope="module")
def heldout() -> Clips:
    recordings = load_clips(SpeechDataConfig(), "validation", sample_rate=16_000)
    return recorded_clips(recordings)


@pytest.fixture(scope="module")
def word(heldout: Clips) -> torch.Tensor:
    """A recording long enough for every metric: two words, one after the other."""
    return torch.cat(heldout.waveforms[:2])


def test_clips_know_what_is_said(heldout: Clips) -> None:
    assert heldout.texts == tuple(heldout.classes[label] for label in heldout.labels.tolist())


@needs_pesq
def test_pesq_of_identical_clips_is_its_maximum(word: torch.Tensor) -> None:
    assert pesq(word, word, 16_000, "wb") == pytest.approx(4.644, abs=1e-3)
    assert pesq(word, word, 16_000, "nb") == pytest.approx(4.549, abs=1e-3)


@needs_pesq
def test_noise_lowers_pesq_and_stoi(word: torch.Tensor) -> None:
    noise = torch.randn(len(word), generator=torch.Generator().manual_seed(0))
    pairs = [(word, word + level * noise) for level in (0.001, 0.1)]
    for found in ([pesq(*p, 16_000, "wb") for p in pairs], [stoi(*p, 16_000) for p in pairs]):
        assert found[0] > found[1] > 0


@needs_pesq
def test_pesq_on_silence_is_counted_out(word: torch.Tensor) -> None:
    silence = torch.zeros_like(word)
    assert pesq(silence, silence, 16_000, "wb") is None
    assert pesq(word, silence, 16_000, "wb") is None
    number = over_clips(
        lambda: (pesq(a, a, 16_000, "wb") for a in (word, silence, word[:100])), "silent"
    )
    assert number.value == pytest.approx(4.644, abs=1e-3) and number.count == 1
    assert number.note and "2 of 3 counted out: silent" in number.note
    nothing = over_clips(lambda: [pesq(silence, silence, 16_000, "nb")], "silent")
    assert nothing.value is None and nothing.reason


def test_stoi_of_identical_clips_is_one_and_of_short_or_silent_ones_is_none(
    word: torch.Tensor,
) -> None:
    assert stoi(word, word, 16_000) == pytest.approx(1, abs=1e-6)
    assert stoi(word[:1600], word[:1600], 16_000) is None
    assert stoi(0 * word, word, 16_000) is None


def test_a_missing_package_is_a_dash_with_its_reason() -> None:
    number = over_clips(lambda: [float(package("no_such_module").x)], "")
    assert number.value is None and "no_such_module can't be imported" in str(number.reason)


def test_a_set_has_distance_0_to_itself() -> None:
    values = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    features = Features(values, values, torch.arange(50), torch.zeros(50).long())
    real = Reference("train", features, statistics(features), "")
    model = SpeechClassifier(SpeechClassifierConfig(classes=("a", "b")))
    model.name, model.sha256, model.published = "classifier", "", False
    assert distance(features, real, model).value == pytest.approx(0, abs=1e-6)


def test_a_padded_recording_is_classified_as_it_is_alone() -> None:
    torch.manual_seed(0)
    model = SpeechClassifier(SpeechClassifierConfig(classes=("a", "b"), width=8)).eval()
    clips = [0.1 * torch.randn(size) for size in (3001, 800, 5200)]
    device = torch.device("cpu")
    together = model(*padded(clips, device))
    alone = torch.cat([model(*padded([clip], device)) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_speaker_without_training_recordings_has_no_mean() -> None:
    voices = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    none, speakers = torch.zeros(3).long(), torch.tensor([0, 1, 1])
    clips = Clips([], RATE, none, none, speakers, (), ("a", "b"))
    means = speaker_means(Features(voices, voices[:, :0], none, none), clips, 3)
    assert torch.equal(means, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))


def test_bits_per_second_are_those_of_the_saved_prior(tmp_path: Path) -> None:
    def line(step: int, nats: float, bits: float) -> str:
        values = {"heldout/nats_per_code": nats, "heldout/bits_per_second": bits}
        return json.dumps({"step": step, **values, "heldout/clips": 3, "heldout/codes": 1500})

    nothing = heldout_bits(tmp_path)
    assert nothing.value is None and "no heldout/bits_per_second" in str(nothing.reason)
    lines = [
        line(5, float("nan"), 1.0),
        line(10, 3.0, 90.0),
        line(20, 2.0, 60.0),
        line(30, 2.5, 75.0),
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 40, "loss/train": 1.0}']))
    found = heldout_bits(tmp_path)
    assert found.value == 60 and found.count == 3
    assert "step 20" in str(found.note) and "3 clips of 1,500 codes" in str(found.note)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "heldout/nats_per_code": 2.0}\n')
    assert heldout_bits(tmp_path).value is None
    assert "set prior_run" in str(heldout_bits(None).reason)


def test_pocketsphinx_hears_digits(heldout: Clips) -> None:
    pytest.importorskip("pocketsphinx")
    assert spoken(("0", "7", "left")) == ("zero", "seven", "left")
    clips = Clips(
        heldout.waveforms[:10], 16_000, heldout.indices[:10], heldout.labels[:10],
        heldout.speakers[:10], WORDS, heldout.speaker_names,
    )  # fmt: skip
    assert sum(recognised(clips)) >= 5  # type: ignore[arg-type]


@pytest.mark.slow
def test_voicing_of_identical_clips_agrees(word: torch.Tensor) -> None:
    assert voicing_f1(word, word, 16_000, "pyin") == 1
    assert voicing_f1(0 * word, 0 * word, 16_000, "pyin") is None


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> ScoreSpeechConfig:
    """A config over an untrained tokenizer, a barely trained classifier, and noise as samples."""
    folder = tmp_path_factory.mktemp("speech")
    torch.manual_seed(0)
    tokenizer = SpeechTokenizer(
        SpeechTokenizerConfig(
            sample_rate=RATE, ratios=(8, 8, 4), width=4, lstm_layers=1, decoder_width=32,
            decoder_hidden=32, decoder_layers=1, decoder_window=64, n_fft=512,
            quantizer=SimVQConfig(codebook_size=64, code_dim=8),
        )
    )  # fmt: skip
    tokenizer.save_pretrained(folder / "model")
    data = folder / "data"
    for split, number in (("train", 6), ("validation", 2)):
        few_digits(data / split, split, number)
    random = np.random.default_rng(0)
    for i in range(6):
        noise = 0.1 * random.standard_normal(3000 + 100 * i)
        soundfile.write(folder / f"{i:06}.wav", noise, RATE, subtype="PCM_16")
    source = SpeechDataConfig(source=str(data), speaker_column=None, text_column=None)
    classifier = train_speech_classifier(
        TrainSpeechClassifierConfig(
            run_dir=folder / "classifier", data=source, width=8, steps=5, batch_size=4
        )
    )
    sampling = {
        "count": 6, "labels": [0, 1] * 3, "speakers": None, "texts": None, "seeds": list(range(6)),
        "classes": ["one", "two"], "guidance": 1.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0,
        "tokenizer_sha256": sha256(folder / "model/model.safetensors"), "prior_sha256": "0",
        "sample_rate": RATE,
    }  # fmt: skip
    (folder / "sample.json").write_text(json.dumps(sampling))
    mean = torch.nn.Sequential(torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(0))
    torch.jit.script(mean).save(folder / "utmos.pt")  # its opinion is the mean sample
    return ScoreSpeechConfig(
        tokenizer=folder / "model", samples=folder, data=source, classifier=classifier,
        utmos=folder / "utmos.pt", whisper=str(folder / "no whisper"),
        voicing="none", slow_count=1, cache=folder / "cache",
    )  # fmt: skip


def test_a_whole_score_writes_its_table_and_its_report(scored: ScoreSpeechConfig) -> None:
    report = score(scored)
    rows = {
        row["name"]: row["numbers"]
        for row in json.loads((report.parent / "score.json").read_text())["rows"]
    }
    names = ["ground truth", "reconstruction", "samples", "held-out vs train", "train vs train"]
    assert list(rows) == names
    made = rows["reconstruction"]
    assert made["bitrate (kbps)"]["value"] == pytest.approx(RATE / 256 * 6 / 1000)
    assert made["PESQ (wide-band, 16000 Hz)"]["value"] is None
    assert "8000 Hz" in made["PESQ (wide-band, 16000 Hz)"]["reason"]
    assert made["mel distance (7 scales)"]["count"] == 4
    assert 0 <= rows["samples"]["label accuracy (classifier)"]["value"] <= 1
    own = [number["value"] for number in rows["train vs train"].values()]
    assert own and own == pytest.approx([0] * len(own), abs=1e-3)
    for name in ("ground truth", "reconstruction", "samples"):
        assert "no whisper can't be loaded" in rows[name]["word error rate (Whisper)"]["reason"]
        assert rows[name]["UTMOS"]["count"] == 1
        assert rows[name]["UTMOS"]["value"] == pytest.approx(0, abs=0.01)
    assert "set prior_run" in rows["samples"]["held-out bits per second of audio"]["reason"]
    for numbers in rows.values():
        assert all(n["value"] is not None or n["reason"] for n in numbers.values())
    page = report.read_text()
    assert page.count("<audio controls") == 6 + 2 * 4 and "Durations" in page
    assert "train vs train" in score_table(report)
    assert finished(scored) == report


def test_a_tokenizer_without_codes_is_scored_alone(
    scored: ScoreSpeechConfig, tmp_path: Path
) -> None:
    tokenizer = SpeechTokenizer.from_pretrained(scored.tokenizer)
    unquantized = replace(tokenizer.config, quantizer=ContinuousConfig(code_dim=8))
    SpeechTokenizer(unquantized).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="set samples or out"):
        replace(scored, samples=None)
    config = replace(
        scored,
        tokenizer=tmp_path / "model",
        samples=None,
        out=tmp_path / "scores",
        utmos=None,
        whisper=None,
    )
    assert finished(config) is None
    report = score(config)
    rows = {
        row["name"]: row["numbers"]
        for row in json.loads((report.parent / "score.json").read_text())["rows"]
    }
    names = ["ground truth", "reconstruction", "held-out vs train", "train vs train"]
    assert list(rows) == names
    rebuilt = rows["reconstruction"]
    assert rebuilt["mel distance (7 scales)"]["count"] == 4 and "codes used" not in rebuilt
    assert "Use of the codes" not in report.read_text() and "Durations" in report.read_text()
    assert finished(config) == report


def test_samples_of_another_rate_or_count_are_told_in_words(
    scored: ScoreSpeechConfig, tmp_path: Path
) -> None:
    sampling = json.loads((scored.samples / "sample.json").read_text())
    soundfile.write(tmp_path / "000000.wav", np.zeros(100), RATE, subtype="PCM_16")
    config = ScoreSpeechConfig(
        tokenizer=scored.tokenizer, samples=tmp_path, data=scored.data, cache=scored.cache
    )
    with pytest.raises(ValueError, match=r"no sample\.json"):
        score(config)
    (tmp_path / "sample.json").write_text(json.dumps(sampling))
    with pytest.raises(ValueError, match="1 WAV files"):
        score(config)
    (tmp_path / "sample.json").write_text(json.dumps(sampling | {"sample_rate": 16_000}))
    with pytest.raises(ValueError, match="set tokenizer or samples"):
        score(config)


def test_a_sample_that_was_asked_to_say_a_label_has_that_label(
    scored: ScoreSpeechConfig,
) -> None:
    sampling = json.loads((scored.samples / "sample.json").read_text())
    sampling |= {"labels": None, "classes": ["0", "1"], "texts": ["one", "zero"] * 3}
    assert sampled_clips(scored.samples, sampling, ()).labels.tolist() == [1, 0] * 3
    sampling["texts"][0] = "hello"
    assert sampled_clips(scored.samples, sampling, ()).classes == ()
