"""Codes that end, and a small training of a prior on them."""

import dataclasses
from pathlib import Path
from typing import Any

import datasets
import torch
from helpers.speech_runs import MODEL, RATE

from common.files import sha256
from common.manifest import write_manifest
from common.training import OptimConfig
from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.quantizers import SimVQConfig
from stage2_prior.train_config import TrainPriorConfig

K = 20
"""The number of codes."""


def write_counting(root: Path, held_out: int = 6) -> Path:
    """The folder with a random tokenizer in it, and codes that go up by one from their label."""
    torch.manual_seed(0)
    quantizer = SimVQConfig(codebook_size=K, code_dim=4)
    SpeechTokenizer(dataclasses.replace(MODEL, quantizer=quantizer)).save_pretrained(
        root / "tokenizer"
    )
    for split, count in (("train", 24), ("validation", held_out)):
        rows = [
            {
                "label": i % 3,
                "speaker": i % 2,
                "text": ("One", "ten", "three")[i % 3],
                "codes": [i % 3 + j for j in range(3 + i % 10)],
            }
            for i in range(count)
        ]
        (root / "codes" / split).mkdir(parents=True)
        datasets.Dataset.from_list(rows).to_parquet(
            str(root / "codes" / split / "shard-00000.parquet")
        )
    manifest = {
        "modality": "speech",
        "tokenizer_sha256": sha256(root / "tokenizer" / "model.safetensors"),
        "codebook_size": K,
        "sample_rate": RATE,
        "hop": MODEL.hop,
        "classes": ["one", "ten", "three"],
        "speakers": ["a", "b"],
        "histogram": [1] * K,
        "complete": True,
    }
    write_manifest(root / "codes" / "manifest.json", manifest)
    return root


def small_prior(run_dir: Path, **options: Any) -> TrainPriorConfig:
    """A training of the smallest prior."""
    usual: dict[str, Any] = {
        "size": "1m",
        "optim": OptimConfig(lr=1e-3, warmup_steps=2),
        "workers": 0,
        "allow_failed": True,
    }
    return TrainPriorConfig(run_dir=run_dir, **{**usual, **options})


def run_config(root: Path, run: str, **changes: Any) -> TrainPriorConfig:
    """A training with every part that has state: dropout, averages, checkpoints."""
    options: dict[str, Any] = {
        "codes": root / "codes",
        "tokenizer": root / "tokenizer",
        "condition": "label+speaker",
        "dropout": 0.1,
        "optim": OptimConfig(lr=2e-3, warmup_steps=2),
        "steps": 12,
        "batch_size": 8,
        "ema_decay": 0.5,
        "log_every": 1,
        "save_every": 4,
    }
    return small_prior(root / run, **{**options, **changes})
