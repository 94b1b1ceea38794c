"""Variants of a prior are trained, sampled, written down once, and compared with the plain one by seed."""

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.image_runs import MODEL

from benchmarks import prior_variants
from pipelines.evaluation.images.classifier import ImageClassifier, ImageClassifierConfig
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.images.encode import EncodeImagesConfig


@pytest.mark.slow
def test_every_variant_trains_and_what_is_written_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    ImageTokenizer(MODEL).save_pretrained(tmp_path / "model")
    ImageClassifier(ImageClassifierConfig(classes=tuple("0123456789"))).save_pretrained(
        tmp_path / "classifier"
    )
    encode(
        EncodeImagesConfig(
            tokenizer=tmp_path / "model", out=tmp_path / "codes", data=ImageDataConfig()
        )
    )
    monkeypatch.setattr(prior_variants, "MEASURED", 1)
    names = list(prior_variants.VARIANTS)
    words = [f"codes={tmp_path / 'codes'}", f"tokenizer={tmp_path / 'model'}", "held_out=250"]
    words += [f"out={tmp_path / 'out.jsonl'}", "steps=3", "seeds=1", "count=100"]
    words += [f"classifier={tmp_path / 'classifier'}"]
    monkeypatch.setattr(sys, "argv", ["prior_variants", *words])
    prior_variants.main()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["variant"] for line in lines] == names
    chance = 5 * 16  # bits of 4 x 4 codes out of 32
    assert all(
        2 <= line["steps"] < 100 and 0 < line["bits_per_item"] < 1.2 * chance for line in lines
    )
    assert len({line["bits_per_item"] for line in lines}) > len(lines) // 2
    shares = {line["variant"]: line["share_of_the_way"] for line in lines}
    unsampled = {name for name, share in shares.items() if share is None}
    assert unsampled == {*prior_variants.UNSAMPLED}
    assert len({*shares.values()}) > len(lines) // 2
    table = capsys.readouterr().out
    assert "| Muon, lr 8e-3 | 1 |" in table and "+0.0 %" in table
    prior_variants.main()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(lines)
