"""Priors that start from others, and that stop early."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.finetuning import make_source, prior_config
from helpers.image_runs import few_digits

from common.tracking import read_metrics
from common.training import OptimConfig
from pipelines.generation.images import ImageGenerationPipeline
from stage1_tokenizer import ImageTokenizer
from stage2_prior import Prior
from stage2_prior.findings import prior_summary
from stage2_prior.train import train_prior


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    return make_source(root, few_digits(root, train=120, validation=30))


def test_a_prior_goes_on_from_another_run_or_a_pipeline(source: Path, tmp_path: Path) -> None:
    best = train_prior(prior_config(source, tmp_path / "first"))
    (last,) = (r for r in read_metrics(tmp_path / "first") if "heldout/nats_per_code" in r)
    tokenizer = ImageTokenizer.from_pretrained(source / "tokenizer/model")
    pipeline = tmp_path / "pipeline"
    ImageGenerationPipeline(tokenizer, Prior.from_pretrained(best), []).save_pretrained(pipeline)
    for name, place in (("run", best), ("pipeline", pipeline)):
        config = prior_config(source, tmp_path / f"from {name}", init_from=place, seed=5)
        train_prior(config)
        start = read_metrics(config.run_dir)[0]
        assert start["step"] == 0
        assert start["heldout/nats_per_code"] == last["heldout/nats_per_code"]
    kept = read_metrics(tmp_path / "from run")
    shutil.rmtree(best)
    train_prior(prior_config(source, tmp_path / "from run", init_from=best, seed=5, steps=4))
    assert read_metrics(tmp_path / "from run")[: len(kept) - 1] == kept[:-1]


def test_a_prior_that_does_not_fit_is_told_in_one_sentence(source: Path, tmp_path: Path) -> None:
    best = train_prior(prior_config(source, tmp_path / "first", style="gpt2", steps=1))
    for changes, words in (
        ({"size": "3m", "style": "gpt2"}, r"best has size=1m \(here 3m\): set the same here"),
        ({}, r"has style=gpt2 \(here llama\)"),
        ({"init_from": source / "tokenizer/model"}, "no Prior, for its config.json has the key"),
    ):
        options: dict[str, Any] = {"init_from": best, **changes}
        with pytest.raises(ValueError, match=words) as caught:
            train_prior(prior_config(source, tmp_path / "run", **options))
        assert "\n" not in str(caught.value)


def test_a_prior_stops_early(source: Path, tmp_path: Path) -> None:
    config = prior_config(
        source,
        tmp_path / "run",
        optim=OptimConfig(lr=0.2, warmup_steps=4),
        steps=80,
        patience=2,
        log_every=1000,
    )
    train_prior(config)
    summary = prior_summary(
        read_metrics(config.run_dir)
    )  # though it ended before the first such line
    assert any("0 skipped" in line for line in summary)
    lines = [r for r in read_metrics(config.run_dir) if "heldout/nats_per_code" in r]
    nats = [line["heldout/nats_per_code"] for line in lines]
    assert len(nats) == nats.index(min(nats)) + 1 + 2 < 40
    done = json.loads((config.run_dir / "done.json").read_text())
    assert done["steps"] == lines[-1]["step"]
    assert done["ended_early"] == {"steps": 80, "patience": 2}
    modified = (config.run_dir / "metrics.jsonl").stat().st_mtime_ns
    train_prior(config)
    assert (config.run_dir / "metrics.jsonl").stat().st_mtime_ns == modified
