"""Benchmarks of speech and of scoring, at sizes too small to time: both ways say the same, and sound has its length."""

import json
from pathlib import Path

import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

import benchmarks.scoring
import benchmarks.speech
from benchmarks.codecs import NAMES, codec
from benchmarks.speech import noise
from pipelines.evaluation.fidelity import precision_recall_of_features

SMALL_SPEECH = (
    *("seconds=0.64", "thinner=8", "prior=1m", "batches=[1,2]", "sampled_seconds=0.1"),
    *("threads=[1]", "rounds=1", "memory=false"),
)
SMALL_SCORES = ("count=300", "side=8", "width=4", "rounds=1", "memory=false", "batch_size=100")


def test_both_ways_of_scoring_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    benchmarks.scoring.main([*SMALL_SCORES])
    written = tmp_path / "runs" / "benchmarks"
    found = json.loads((written / "scoring.json").read_text())
    ours, theirs = found["ours"], found["theirs"]
    # torch-fidelity sums up the distance and KID in float32
    assert ours["distance"] == pytest.approx(theirs["distance"], rel=1e-3)
    assert ours["KID"] == pytest.approx(theirs["KID"], rel=1e-3, abs=1e-6)
    assert ours["inception score"] == pytest.approx(theirs["inception score"], rel=1e-6)
    for name in ("precision", "recall"):
        assert ours[name] == pytest.approx(theirs[name], abs=1 / 300) and 0 < ours[name] < 1
    lines = (written / "scoring.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| simvq", "| torch-fidelity"]


@pytest.mark.parametrize("made, real", [(1500, 1200), (700, 2100), (4, 5)])
def test_precision_and_recall_are_those_of_torch_fidelity(made: int, real: int) -> None:
    torch.manual_seed(made)
    sides = torch.randn(made, 30), 1.1 * torch.randn(real, 30)
    options = {"prc_neighborhood": 3, "prc_batch_size": 1000, "verbose": False}
    found = prc_features_to_metric(*sides, save_cpu_ram=True, **options)
    found_here = precision_recall_of_features(*sides)
    assert found_here == pytest.approx((found["precision"], found["recall"]), abs=1 / real)


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_gives_back_as_much_sound_as_it_got(name: str) -> None:
    chosen = codec(name, 8)
    waveform = noise(0.64, chosen.sample_rate)
    with torch.no_grad():
        made = chosen.decode(chosen.encode(waveform))
    assert made.shape == waveform.shape and made.isfinite().all()
    assert chosen.parameters > 100_000 and 600 < chosen.bits_per_second < 3000


def test_the_tables_of_speech_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    benchmarks.speech.main([*SMALL_SPEECH])
    written = tmp_path / "runs" / "benchmarks"
    coded = json.loads((written / "speech_codecs.json").read_text())
    assert [one["name"] for one in coded] == list(NAMES)
    assert all(one["samples_in"] == 0.64 * one["sample_rate"] for one in coded)
    sampled = json.loads((written / "speech_samples.json").read_text())
    assert [(one["batch"], one["samples"]) for one in sampled] == [(1, 1600), (2, 1600)]
