"""What makes a prior better in the same time: each change alone, against AdamW at a learning rate of 2e-3.

`python -m benchmarks.prior_variants codes=runs/mnist/codes tokenizer=runs/mnist/tokenizer/model seconds=300` trains a
prior for each variant and seed, for as many steps as fit into `seconds` of CPU time by the measured time of its step,
and writes a line for each into `out`. The same command again goes on: what is in the file stays. Held-out bits are of
the validation part, by averaged weights.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.prior_changes import (
    grid_rotary,
    label_everywhere,
    nothing,
    qk_norm,
    scaled_residual,
    several,
    zero_residual,
)
from common.codes import read_codes, read_manifest
from common.config import load_config
from common.seeding import seed_step
from common.training import Average, OptimConfig, learning_rate
from stage2_prior import Prior
from stage2_prior.build import build_prior
from stage2_prior.data import CodeDataset, held_out_batches, training_batches
from stage2_prior.optimizers import Kind, new_optimizers
from stage2_prior.train_config import TrainPriorConfig

MEASURED, FEWEST = 8, 60
"""Steps by which a variant's time is estimated, and that a training has at least."""


@dataclass(frozen=True, kw_only=True)
class VariantsConfig:
    """What is trained."""

    codes: Path
    """The folder of `simvq encode`."""
    tokenizer: Path
    """The `model` folder of the tokenizer."""
    out: Path = Path("runs/prior-variants.jsonl")
    seconds: float = 300.0
    """CPU time of each training."""
    seeds: int = 3
    variants: tuple[str, ...] = ()
    """Names of those that are trained; all without."""
    dropout: float = 0.1
    held_out: int = 2000
    """Validation items that are evaluated, at most."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change of the recipe."""

    change: Callable[[Prior, list[int]], None] = nothing
    """Of the network, before its training; it is told the grid of codes."""
    lr: float = 2e-3
    batch_size: int = 64
    optimizer: Kind = "adamw"
    schedule: Callable[[int, int, OptimConfig], float] = learning_rate
    final_lr_ratio: float = 0.1
    ema_decay: float = 0.995
    keys: dict[str, Any] = field(default_factory=dict)
    """Of TrainPriorConfig."""


def warm_stable_decay(step: int, total: int, optim: OptimConfig) -> float:
    """Linear warm-up, a constant rate, and a linear decay to zero over the last fifth."""
    left = (total - step) / (0.2 * total)
    return optim.lr * min((step + 1) / optim.warmup_steps, 1.0, left)


VARIANTS = {
    "AdamW": Variant(),
    "lr 1e-3": Variant(lr=1e-3),
    "lr 4e-3": Variant(lr=4e-3),
    "2-D rotary": Variant(change=grid_rotary),
    "QK-norm": Variant(change=qk_norm),
    "scaled residual": Variant(change=scaled_residual),
    "zero residual": Variant(change=zero_residual),
    "label everywhere": Variant(change=label_everywhere),
    "Muon": Variant(optimizer="muon"),
    "Muon, lr 4e-3": Variant(optimizer="muon", lr=4e-3),
    "Muon, lr 8e-3": Variant(optimizer="muon", lr=8e-3),
    "Muon, lr 4e-3, QK-norm": Variant(optimizer="muon", lr=4e-3, change=qk_norm),
    "warm-up, stable, decay": Variant(schedule=warm_stable_decay),
    "batch 32": Variant(batch_size=32),
    "batch 128": Variant(batch_size=128),
    "no dropout": Variant(keys={"dropout": 0.0}),
    "final lr 0.01": Variant(final_lr_ratio=0.01),
    "codebook head": Variant(keys={"head": "codebook"}),
    "Muon, lr 4e-3, all changes": Variant(
        optimizer="muon", lr=4e-3, change=several(qk_norm, grid_rotary, scaled_residual)
    ),
}


class Trial:
    """One training: a variant's network, data and optimizers, and its steps."""

    def __init__(self, name: str, seed: int, settings: VariantsConfig) -> None:
        self.variant, manifest = VARIANTS[name], read_manifest(settings.codes)
        items = {split: read_codes(settings.codes, split) for split in ("train", "validation")}
        keys: dict[str, Any] = {"dropout": settings.dropout, "size": "1m", "seed": seed}
        config = TrainPriorConfig(
            run_dir=Path(),
            codes=settings.codes,
            tokenizer=settings.tokenizer,
            **keys | self.variant.keys,
        )
        self.seed = seed
        self.prior = build_prior(config, manifest, items)
        self.variant.change(self.prior, manifest["grid"])
        self.prior.train()
        self.optim = OptimConfig(
            lr=self.variant.lr,
            weight_decay=0.1,
            warmup_steps=50,
            final_lr_ratio=self.variant.final_lr_ratio,
        )
        self.optimizers = new_optimizers(self.prior, self.variant.optimizer, self.optim)
        self.average = Average(self.prior, self.variant.ema_decay)
        data = CodeDataset(items["train"], self.prior, config.label_dropout, seed)
        size = self.variant.batch_size
        self.batches = training_batches(data, batch_size=size)
        self.held_out = CodeDataset(items["validation"], self.prior, 0.0, seed)

    def step(self, index: int, total: int) -> None:
        """One step of all optimizers."""
        seed_step(self.seed, index, 0)
        self.prior(*next(self.batches)).backward()
        nn.utils.clip_grad_norm_(self.prior.parameters(), 1.0)
        lr = self.variant.schedule(index, total, self.optim)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
        self.average.update(index)


def train(name: str, seed: int, settings: VariantsConfig) -> dict[str, Any]:
    """Trains one variant; what it reached."""
    trial = Trial(name, seed, settings)
    trial.step(0, 1000)
    start = time.process_time()
    for index in range(1, 1 + MEASURED):
        trial.step(index, 1000)
    total = max(round(settings.seconds / (time.process_time() - start) * MEASURED), FEWEST)
    for index in range(1 + MEASURED, total):
        trial.step(index, total)
    spent = time.process_time() - start
    with trial.average.swapped_in():
        bits = held_out_bits(trial.prior, trial.held_out, settings.held_out)
    made = {"variant": name, "seed": seed, "steps": total, "cpu_seconds": spent}
    return made | {"bits_per_item": bits}


@torch.no_grad()
def held_out_bits(prior: Prior, items: CodeDataset, most: int) -> float:
    """Bits of a held-out item, in the mean."""
    prior.eval()
    batches = held_out_batches(items, batch_size=250)
    nats = torch.cat([prior.nats(*batch) for batch in islice(batches, -(-most // 250))])
    return float(nats.mean()) / math.log(2)


def main() -> None:
    settings = load_config(VariantsConfig, None, sys.argv[1:])
    lines = (
        [json.loads(line) for line in settings.out.read_text().splitlines()]
        if settings.out.exists()
        else []
    )
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(settings.seeds):
        for name in settings.variants or VARIANTS:
            if not any((line["variant"], line["seed"]) == (name, seed) for line in lines):
                lines.append(train(name, seed, settings))
                with settings.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(lines[-1], flush=True)
    table(lines)


def table(lines: list[dict[str, Any]]) -> None:
    """A row for each variant: median and range of the bits, and the paired difference to plain AdamW."""
    plain = {line["seed"]: line["bits_per_item"] for line in lines if line["variant"] == "AdamW"}
    print(
        "| variant | seeds | steps | bits per item | range | against AdamW |\n| --- | ---: | ---: | ---: | --- | ---: |"
    )
    for name in VARIANTS:
        own = [line for line in lines if line["variant"] == name and line["seed"] in plain]
        if own:
            bits = [line["bits_per_item"] for line in own]
            paired = [100 * (line["bits_per_item"] / plain[line["seed"]] - 1) for line in own]
            print(
                f"| {name} | {len(own)} | {round(median(line['steps'] for line in own)):,} | {median(bits):.2f} | "
                f"{min(bits):.2f} to {max(bits):.2f} | {median(paired):+.2f} % |"
            )


if __name__ == "__main__":
    main()
