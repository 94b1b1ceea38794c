"""The report of a tokenizer's training shows held-out items, curves and findings."""

from pathlib import Path

from helpers.image_runs import tokenizer_config

from pipelines.evaluation.training_report import write_training_report
from stage1_tokenizer.train import train_tokenizer


def test_it_shows_the_examples_of_the_last_save(tmp_path: Path) -> None:
    train_tokenizer(tokenizer_config(tmp_path, steps=2, save_every=1))
    page = write_training_report(tmp_path).read_text()
    assert "Held-out items" in page and "step-00000002" in page
    assert "step-00000001" not in page and "PSNR (dB)" in page
