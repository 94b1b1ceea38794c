"""A small tokenizer of digits to start from, and configs of trainings that do."""

from pathlib import Path
from typing import Any

from helpers.code_runs import small_prior
from helpers.image_runs import tokenizer_config

from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.images.training import TrainImageTokenizerConfig
from stage1_tokenizer.train import train_tokenizer
from stage2_prior.train_config import TrainPriorConfig


def make_source(root: Path, data: ImageDataConfig) -> Path:
    """The folder with a trained tokenizer, its discriminator and its codes in it."""
    train_tokenizer(tokenizer_config(root / "tokenizer", data=data))
    encode(EncodeImagesConfig(tokenizer=root / "tokenizer/model", out=root / "codes", data=data))
    return root


def finetuning(
    source: Path, run_dir: Path, data: ImageDataConfig, **changes: Any
) -> TrainImageTokenizerConfig:
    options = {"init_from": source / "tokenizer/model", "data": data, **changes}
    return tokenizer_config(run_dir, **options)


def prior_config(source: Path, run_dir: Path, **changes: Any) -> TrainPriorConfig:
    options: dict[str, Any] = {
        "codes": source / "codes",
        "tokenizer": source / "tokenizer/model",
        "condition": "none",
        "steps": 2,
        "batch_size": 60,
    }
    return small_prior(run_dir, **{**options, **changes})
