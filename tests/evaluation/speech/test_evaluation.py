"""A whole score of speech."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.codes import write_codes
from helpers.scores import metrics_by_row
from helpers.speech_runs import MODEL, RATE, few_digits

from common.files import sha256
from pipelines.evaluation.classifier import train_classifier
from pipelines.evaluation.config import ScoreSpeechConfig, TrainSpeechClassifierConfig
from pipelines.evaluation.score import finished, score, score_table
from pipelines.evaluation.speech.data import sampled_clips
from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.quantizers import ContinuousConfig
from stage1_tokenizer.speech.data import SpeechDataConfig
from stage1_tokenizer.tokenizer import code_source


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> ScoreSpeechConfig:
    """A config over an untrained tokenizer, a barely trained classifier, and noise as samples."""
    folder = tmp_path_factory.mktemp("speech")
    torch.manual_seed(0)
    SpeechTokenizer(MODEL).save_pretrained(folder / "model")
    data = folder / "data"
    for split, number in (("train", 6), ("validation", 2)):
        few_digits(data / split, split, number)
    random = np.random.default_rng(0)
    for i in range(6):
        noise = 0.1 * random.standard_normal(3000 + 100 * i)
        soundfile.write(folder / f"{i:06}.wav", noise, RATE, subtype="PCM_16")
    source = SpeechDataConfig(source=str(data), speaker_column=None, text_column=None)
    classifier = train_classifier(
        TrainSpeechClassifierConfig(
            run_dir=folder / "classifier", data=source, width=8, steps=5, batch_size=4
        )
    )
    sampling = {
        "count": 6,
        "labels": [0, 1] * 3,
        "speakers": None,
        "texts": None,
        "seeds": list(range(6)),
        "classes": ["one", "two"],
        "guidance": 1.0,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "tokenizer_sha256": sha256(folder / "model/model.safetensors"),
        "prior_sha256": "0",
        "sample_rate": RATE,
    }
    (folder / "sample.json").write_text(json.dumps(sampling))
    mean = torch.nn.Sequential(torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(0))
    torch.jit.script(mean).save(folder / "utmos.pt")  # its opinion is the mean sample
    codes = [random.integers(0, 32, 8 + i).tolist() for i in range(12)]
    write_codes(folder / "codes" / "train", codes)
    manifest = {
        "histogram": np.bincount(np.concatenate(codes), minlength=32).tolist(),
        **code_source(folder / "model", {}),
    }
    (folder / "codes" / "manifest.json").write_text(json.dumps(manifest))
    return ScoreSpeechConfig(
        tokenizer=folder / "model",
        samples=folder,
        out=folder,
        codes=folder / "codes",
        data=source,
        classifier=classifier,
        utmos=folder / "utmos.pt",
        trust=True,
        whisper=str(folder / "no whisper"),
        voicing="none",
        slow_count=1,
        cache=folder / "cache",
    )


def test_a_whole_score_writes_its_table_and_its_report(scored: ScoreSpeechConfig) -> None:
    report = score(scored)
    rows = metrics_by_row(report)
    controls = ["i.i.d. codes", "marginals", "bigrams", "scrambled"]
    assert list(rows) == [
        *("ground truth", "reconstruction", "samples", *controls),
        *("held-out vs train", "train vs train"),
    ]
    assert all(rows[name]["FD(data-classifier) vs train"]["count"] == 4 for name in controls)
    assert all("KAD(data-classifier) vs train" in rows[name] for name in ("samples", *controls))
    assert "share of the way(data-classifier)" in rows["samples"]
    rebuilt = rows["reconstruction"]
    assert rebuilt["bitrate (kbps)"]["value"] == pytest.approx(RATE / MODEL.hop * 5 / 1000)
    assert rebuilt["PESQ (wide-band, 16000 Hz)"]["value"] is None
    assert "8000 Hz" in rebuilt["PESQ (wide-band, 16000 Hz)"]["reason"]
    assert rebuilt["mel distance (7 scales)"]["count"] == 4
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
    unquantized = replace(MODEL, quantizer=ContinuousConfig(code_dim=8))
    SpeechTokenizer(unquantized).save_pretrained(tmp_path / "model")
    config = replace(
        scored,
        tokenizer=tmp_path / "model",
        samples=None,
        codes=None,
        out=tmp_path / "scores",
        utmos=None,
        whisper=None,
    )
    assert finished(config) is None
    report = score(config)
    rows = metrics_by_row(report)
    names = ["ground truth", "reconstruction", "held-out vs train", "train vs train"]
    assert list(rows) == names
    rebuilt = rows["reconstruction"]
    assert rebuilt["mel distance (7 scales)"]["count"] == 4 and "codes used" not in rebuilt
    assert "Use of the codes" not in report.read_text() and "Durations" in report.read_text()
    assert finished(config) == report


def test_a_program_from_elsewhere_needs_trust(scored: ScoreSpeechConfig) -> None:
    with pytest.raises(ValueError, match=r"utmos\.pt is TorchScript.*set trust=true"):
        replace(scored, trust=False)


def test_samples_of_another_rate_or_count_are_told_in_words(
    scored: ScoreSpeechConfig, tmp_path: Path
) -> None:
    sampling = json.loads((scored.samples / "sample.json").read_text())
    soundfile.write(tmp_path / "000000.wav", np.zeros(100), RATE, subtype="PCM_16")
    config = ScoreSpeechConfig(
        tokenizer=scored.tokenizer,
        samples=tmp_path,
        data=scored.data,
        cache=scored.cache,
        out=tmp_path,
    )
    with pytest.raises(ValueError, match=r"no sample\.json"):
        score(config)
    (tmp_path / "sample.json").write_text(json.dumps(sampling))
    with pytest.raises(ValueError, match="1 WAV files"):
        score(config)
    (tmp_path / "sample.json").write_text(json.dumps(sampling | {"sample_rate": 16_000}))
    with pytest.raises(ValueError, match="set tokenizer or samples"):
        score(config)


def test_a_sample_that_was_asked_to_say_a_label_has_that_label(scored: ScoreSpeechConfig) -> None:
    sampling = json.loads((scored.samples / "sample.json").read_text())
    sampling |= {"labels": None, "classes": ["0", "1"], "texts": ["one", "zero"] * 3}
    assert sampled_clips(scored.samples, sampling).labels.tolist() == [1, 0] * 3
    sampling["texts"][0] = "hello"
    assert sampled_clips(scored.samples, sampling).classes == ()
