"""What a prior's training is made of: codes, prior, optimizers, averages and counters."""

from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from common.checkpoints import Stateful
from common.codes import code_files, read_codes, read_manifest
from common.early_stopping import Best
from common.gradient_checkpointing import recompute
from common.sharding import shard, take_whole_states
from common.training import Average, StepGuard, compiled
from stage2_prior.build import build_prior
from stage2_prior.data import CodeDataset
from stage2_prior.model import Prior
from stage2_prior.ngrams import baselines
from stage2_prior.optimizers import new_optimizers
from stage2_prior.train_config import TrainPriorConfig

SPLITS = ("train", "validation", "test")
"""Splits of codes; `test` is optional, and only its lengths and the characters of its texts are used."""


@dataclass
class Training:
    """Everything that one step touches."""

    config: TrainPriorConfig
    accelerator: Accelerator
    prior: Prior
    model: nn.Module
    """The prior as the accelerator wraps it for several processes, and torch.compile."""
    optimizers: list[AcceleratedOptimizer]
    """AdamW, and Muon where the config says so."""
    average: Average
    guard: StepGuard
    best: Best
    train: CodeDataset
    held_out: CodeDataset
    baselines: dict[str, float]
    """Held-out nats per code of chance, unigrams and bigrams."""
    codes_per_second: float | None
    """Of audio; None for images."""

    @property
    def codes_per_step(self) -> int:
        """Over all processes; in the mean, where lengths are unequal."""
        return round(self.config.batch_size * self.train.mean_codes)

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        parts: dict[str, Stateful] = {
            "model": self.prior,
            "optimizer": self.optimizers[0].optimizer,
            "average": self.average,
            "guard": self.guard,
            "best": self.best,
        }
        if len(self.optimizers) > 1:
            parts["muon"] = self.optimizers[1].optimizer
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        return parts


def prepare(config: TrainPriorConfig, accelerator: Accelerator) -> Training:
    """Data, model and optimizer, on their device and wrapped for several processes.

    Raises ValueError for codes that do not fit the config.
    """
    manifest = read_manifest(config.codes)
    there = [split for split in SPLITS if code_files(config.codes, split)]
    items = {split: read_codes(config.codes, split) for split in there}
    prior = build_prior(config, manifest, items)
    if config.checkpointing:
        recompute(prior)
    per_second = manifest["sample_rate"] / manifest["hop"] if prior.config.ends else None
    all_items = config.steps * config.batch_size
    model, *prepared = wrapped(config, accelerator, prior)
    return Training(
        config=config,
        accelerator=accelerator,
        prior=prior,
        model=compiled(model) if config.compile else model,
        optimizers=prepared,
        average=Average(prior, config.ema_decay),
        guard=StepGuard(accelerator.device, config.max_skipped_steps, config.optim.grad_clip),
        best=Best(),
        train=CodeDataset(items["train"], prior, config.label_dropout, config.seed, all_items),
        held_out=CodeDataset(items["validation"], prior, 0.0, config.seed),
        baselines=baselines(
            items["train"], items["validation"], prior.config.level_sizes, prior.config.ends
        ),
        codes_per_second=per_second and per_second * prior.config.levels,
    )


def wrapped(config: TrainPriorConfig, accelerator: Accelerator, prior: Prior) -> tuple[Any, ...]:
    """The prior and its optimizers, prepared for several processes: each holds all weights or, with `shard`, a part."""
    if not config.shard or accelerator.num_processes == 1:
        optimizers = new_optimizers(prior, config.optimizer, config.optim)
        return tuple(accelerator.prepare(prior, *optimizers))
    shard(prior)
    optimizers = new_optimizers(prior, config.optimizer, config.optim)
    for optimizer in optimizers:
        take_whole_states(optimizer)
    return prior, *map(accelerator.prepare, optimizers)
