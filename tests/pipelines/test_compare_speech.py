"""compare over speech: the rows of the study of spoken digits, at toy size, and the table's columns."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.speech_runs import few_digits

from common.config import load_config
from pipelines.compare.config import CompareConfig, CompareTuning
from pipelines.compare.study import compare

ROOT = Path(__file__).parents[2]
TINY = (
    *("tokenizer.steps=2", "tokenizer.batch_size=2", "tokenizer.model.width=4"),
    *(f"tokenizer.model.decoder_{key}=32" for key in ("width", "hidden")),
    *("tokenizer.model.decoder_layers=1", "classifier.steps=2"),
    *("prior.steps=2", "prior.batch_size=4", "prior.condition=label"),
    *("samples.count=4", "samples.batch_size=4", "samples.max_codes=40", "score.slow_count=1"),
)


@pytest.mark.slow
def test_speech_goes_through_both_stages_and_so_does_its_ceiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    for split, number in (("train", 6), ("validation", 2)):
        few_digits(tmp_path / "data" / split, split, number)
    keys = [
        f"data.source={tmp_path / 'data'}",
        "data.validation=validation",
        "data.test=null",
        "data.text_column=null",
    ]
    settings = [f"settings.{key}" for key in (*keys, *TINY)]
    real = load_config(CompareConfig, ROOT / "configs/compare/fsdd_cpu.yaml", settings)
    config = replace(
        real,
        experiment=ROOT / "configs/fsdd.yaml",
        at_once=1,
        rows=(real.rows[0], real.rows[-1]),
        tuning=CompareTuning(steps=1, factors=(1.0,)),
    )
    compare(config)
    simvq, ceiling = csv.DictReader((config.out / "compare.csv").open())
    assert float(simvq["bits per second"]) == 800 and float(simvq["weight"]) == 150
    for column in ("used", "perplexity", "mel distance", "gFD", "label accuracy", "step (ms)"):
        assert float(simvq[column]) >= 0, column
    assert float(simvq["prior's bits per second"]) > 0
    assert float(ceiling["mel distance"]) > 0 and float(ceiling["rFD"]) > 0
    for column in ("used", "perplexity", "bits per second", "gFD", "weight", "effective rank"):
        assert ceiling[column] == "", column
    (tuned,) = csv.DictReader((config.out / "tuning.csv").open())
    assert tuned["measure"] == "heldout/mel" and tuned["chosen"] == "True"
    assert (
        "| quantizer | d | seeds | weight | bits per second |"
        in (config.out / "compare.md").read_text()
    )
