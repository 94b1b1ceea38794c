"""Configs of tokenizers: those from before augmentation was a group of its own, and what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.image_runs import tokenizer_config
from helpers.speech_runs import run_config, words
from omegaconf import OmegaConf

from common.config import build, save_config
from common.runs import refuse_other_config
from common.training import OptimConfig
from pipelines.evaluation.config import TrainSpeechClassifierConfig
from pipelines.experiment import read_experiment
from stage1_tokenizer import SpeechTokenizerConfig
from stage1_tokenizer.config import load_saved_config
from stage1_tokenizer.images.losses import ImageLossConfig

ROOT = Path(__file__).parents[2]


def test_a_name_that_yaml_reads_as_true_or_false_is_to_be_quoted() -> None:
    for override in ("samples.labels=[no]", "samples.labels=yes"):
        with pytest.raises(ValueError, match=r"a name such as no, yes, on or off in quotes: set"):
            read_experiment(ROOT / "configs" / "digits.yaml", [override])
    quoted = read_experiment(ROOT / "configs" / "digits.yaml", ["samples.labels=['no']"])
    assert quoted.config("samples").labels == ("no",)


def test_an_encoder_has_a_layer_of_its_lstm() -> None:
    with pytest.raises(ValueError, match=r"lstm_layers=0 must be at least 1: set lstm_layers"):
        build(SpeechTokenizerConfig, {"lstm_layers": 0})
    config = build(SpeechTokenizerConfig, {"lstm_layers": np.int64(2)})
    assert type(config.lstm_layers) is int and config.lstm_layers == 2


def test_configs_of_older_runs_are_read(tmp_path: Path) -> None:
    images, speech = tokenizer_config(tmp_path), run_config(tmp_path, words(tmp_path / "words"))
    classifier = TrainSpeechClassifierConfig(run_dir=tmp_path, data=speech.data)
    path = tmp_path / "config.yaml"
    for config in (images, speech, classifier):
        save_config(config, path)
        assert load_saved_config(type(config), path) == config
        older: Any = OmegaConf.load(path)
        augment = older.pop("augment", {"crop_seconds": 1.0})
        if config is images:
            older |= {"random_crop": augment["crop"], "flip": augment["flip"]}
        else:
            older["data"] |= augment
        OmegaConf.save(older, path)
        assert load_saved_config(type(config), path) == config


def test_a_damaged_config_of_a_run_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("optim: {lr: 1.0e-3")
    (tmp_path / "done.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.yaml: while parsing a flow mapping"):
        refuse_other_config(tokenizer_config(tmp_path))


def test_a_discriminator_has_no_schedule_to_follow_at_a_learning_rate_of_zero(
    tmp_path: Path,
) -> None:
    loss = ImageLossConfig(perceptual_weight=0, adversarial_weight=0.1)
    with pytest.raises(ValueError, match=r"optim\.lr=0 leaves the discriminator.*set optim.lr, or"):
        tokenizer_config(tmp_path, optim=OptimConfig(lr=0), loss=loss)
