"""The training loop that all classifiers share, and the keys that it reads."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config import load_config
from common.hub import HubModel
from common.progress import Progress, machine, parameters
from common.runs import start_run
from common.training import OptimConfig, decay_groups, learning_rate

Batches = Iterator[tuple[tuple[Tensor, ...], Tensor]]
"""What a classifier is called with, and the labels."""


@dataclass(frozen=True, kw_only=True)
class ClassifierTrainingConfig:
    """What the training loop reads, whatever the items are."""

    run_dir: Path
    """Where the run is written; the classifier is its folder `model`."""
    steps: int = 500
    """Optimizer steps."""
    batch_size: int = 64
    """Items per step."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=4e-3, betas=(0.9, 0.99), weight_decay=0.05, warmup_steps=50, final_lr_ratio=0.01
        )
    )
    """The optimizer."""
    seed: int = 0
    """Of the weights, the order and the augmentation."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""


def finished_classifier(config: ClassifierTrainingConfig) -> Path | None:
    """The folder of a classifier of this config, if it is there.

    Raises ValueError where a classifier of another config is in the way.
    """
    folder = config.run_dir / "model"
    if not folder.exists():
        (config.run_dir / "metrics.jsonl").unlink(missing_ok=True)  # of a run that was stopped
        return None
    if load_config(type(config), config.run_dir / "config.yaml") == config:
        return folder
    raise ValueError(f"{folder} holds a classifier of another config: set run_dir, or delete it")


def fit(
    model: HubModel,
    batches: Callable[[torch.device], Batches],
    heldout_accuracy: Callable[[Any], float],
    config: ClassifierTrainingConfig,
) -> Path:
    """The folder of the model, trained on endless batches; the last line of the log has its accuracy."""
    accelerator = start_run(config, config.run_dir, "fp32", ())
    device = accelerator.device
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        decay_groups(model.named_parameters(), config.optim.weight_decay), betas=config.optim.betas
    )
    endless = batches(device)
    total = torch.zeros((), device=device)
    progress = Progress("train-classifier", 0, config.steps, accelerator.is_main_process)
    progress.say(f"train-classifier in {config.run_dir}: {parameters(model)}; {machine(device, 1)}")
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.optim)
        inputs, labels = next(endless)
        loss = F.cross_entropy(model(*inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip)
        optimizer.step()
        total += loss.detach()
        if (step + 1) % config.log_every == 0 and step + 1 < config.steps:
            mean = float(total) / config.log_every
            accelerator.log({"loss/train": mean}, step=step + 1)
            total.zero_()
            if progress.overdue():
                progress.line(step + 1, f"loss {mean:.3f}")
    last = config.steps % config.log_every or config.log_every
    values = {
        "loss/train": float(total) / last,
        "heldout/accuracy": heldout_accuracy(model.eval()),
    }
    accelerator.log(values, step=config.steps)
    if not math.isfinite(values["loss/train"]):
        raise ValueError(f"optim.lr={config.optim.lr} made the loss infinite: set a lower optim.lr")
    model.save_pretrained(config.run_dir / "model")
    return config.run_dir / "model"
