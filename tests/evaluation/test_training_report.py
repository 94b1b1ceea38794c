"""The report of a tokenizer's training says how well it went, and shows held-out items and curves."""

import json
from pathlib import Path

from helpers.image_runs import tokenizer_config

from pipelines.evaluation.config import TrainImageClassifierConfig
from pipelines.evaluation.training_report import (
    example_figures,
    write_classifier_report,
    write_training_report,
)
from stage1_tokenizer.train import train_tokenizer


def test_it_shows_the_examples_of_the_last_save(tmp_path: Path) -> None:
    train_tokenizer(tokenizer_config(tmp_path, steps=2, save_every=1))
    page = write_training_report(tmp_path).read_text()
    assert "Held-out items" in page and "step-00000002" in page
    assert "step-00000001" not in page and "PSNR (dB)" in page
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    psnr, constant = last["heldout/psnr"], last["constant/psnr"]
    assert f"PSNR (dB) of {psnr:.2f}; the best constant output has {constant:.2f}" in page
    assert "Not as it should be: the reconstruction is no better than a constant. Next:" in page


def test_a_classifier_is_told_beside_chance(trained: TrainImageClassifierConfig) -> None:
    page = write_classifier_report(trained.run_dir).read_text()
    last = json.loads((trained.run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"{last['heldout/accuracy']:.1%} of the held-out items; chance is 10.0%" in page
    assert "Classifier: loss" in page


def test_a_speech_training_has_its_clips_to_play(tmp_path: Path) -> None:
    for step in ("step-00000001", "step-00000002"):
        (tmp_path / "examples" / step).mkdir(parents=True)
        (tmp_path / "examples" / f"{step}.png").write_bytes(b"png")
        for name in ("0-original", "0-reconstruction"):
            (tmp_path / "examples" / step / f"{name}.wav").write_bytes(f"{step} {name}".encode())
    players, spectrograms = example_figures(tmp_path)
    assert players.clips == {  # type: ignore[union-attr]
        "0 original": b"step-00000002 0-original",
        "0 reconstruction": b"step-00000002 0-reconstruction",
    }
    assert spectrograms.title == "Spectrograms of held-out clips"
