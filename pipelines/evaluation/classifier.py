"""Trains the classifiers whose features and labels scores rest on; one loop for both modalities."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.hub import HubModel
from common.progress import Progress, machine, parameters
from common.runs import finish_run, is_finished, keep_inputs, refuse_other_inputs, start_run
from common.tracking import read_metrics
from common.training import decay_groups, learning_rate
from pipelines.evaluation.config import (
    ClassifierTrainingConfig,
    TrainImageClassifierConfig,
    TrainSpeechClassifierConfig,
)
from pipelines.evaluation.images.classifier import ImageClassifierTask
from pipelines.evaluation.speech.classifier import SpeechClassifierTask
from stage1_tokenizer.images.data import load_images
from stage1_tokenizer.speech.data import load_clips

Batches = Iterator[tuple[tuple[Tensor, ...], Tensor]]
"""What a classifier is called with, and the labels."""


ClassifierTask = ImageClassifierTask | SpeechClassifierTask
"""What a modality adds to the training: the network and its batches."""
SECOND = {
    "residual": "patches",
    "patches": "residual",
    "convolutional": "recurrent",
    "recurrent": "convolutional",
}
"""For the architecture of the classifier that of the second one, so that no score rests on one network alone."""


def train_classifiers(
    config: TrainImageClassifierConfig | TrainSpeechClassifierConfig,
) -> list[Path]:
    """The folders of the classifier and of a second one, of another architecture and seed, in run_dir/second."""
    check_finished(config)
    return [train_classifier(config), train_classifier(second_config(config))]


def second_config(
    config: TrainImageClassifierConfig | TrainSpeechClassifierConfig,
) -> TrainImageClassifierConfig | TrainSpeechClassifierConfig:
    """The config of the second classifier."""
    changes: dict[str, Any] = {
        "run_dir": config.run_dir / "second",
        "seed": config.seed + 1,
        "architecture": SECOND[config.architecture],
    }
    return replace(config, **changes)


def check_finished(config: TrainImageClassifierConfig | TrainSpeechClassifierConfig) -> None:
    """Raises ValueError where either folder holds a classifier of another config or other items, or damaged files."""
    inputs = {"training items": fingerprint(config)}
    for one in (config, second_config(config)):
        refuse_other_inputs(one.run_dir, inputs)
        if is_finished(one, one.run_dir / "model"):
            read_metrics(one.run_dir)


def train_classifier(config: TrainImageClassifierConfig | TrainSpeechClassifierConfig) -> Path:
    """The folder of the trained classifier; one that is there already, of the same config, is left as is.

    Raises ValueError where a classifier of another config is in the way. The last line of metrics.jsonl
    has `heldout/accuracy`.
    """
    folder = config.run_dir / "model"
    if is_finished(config, folder):
        return folder
    task: ClassifierTask
    if isinstance(config, TrainSpeechClassifierConfig):
        task = SpeechClassifierTask(config)
    else:
        task = ImageClassifierTask(config)
    torch.manual_seed(config.seed)
    model = task.new_model()
    keep_inputs(config.run_dir, {"training items": fingerprint(config)})
    train(model, task, config)
    model.save_pretrained(folder)
    return folder


def fingerprint(config: TrainImageClassifierConfig | TrainSpeechClassifierConfig) -> str:
    """That of the training items."""
    if isinstance(config, TrainSpeechClassifierConfig):
        return load_clips(config.data, "train", sample_rate=config.sample_rate).fingerprint
    shape = {"channels": config.in_channels, "size": config.image_size}
    return load_images(config.data, "train", **shape).fingerprint


def train(model: HubModel, task: ClassifierTask, config: ClassifierTrainingConfig) -> None:
    """Trains the model; the last line of the log has its accuracy."""
    accelerator = start_run(config, "fp32", (), together=False)
    device = accelerator.device
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        decay_groups(model, config.optim.weight_decay), betas=config.optim.betas
    )
    batches = task.train_batches(device)
    total = torch.zeros((), device=device)
    progress = Progress("train-classifier", 0, config.steps, accelerator.is_main_process)
    progress.say(f"train-classifier in {config.run_dir}: {parameters(model)}; {machine(device, 1)}")
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.optim)
        inputs, labels = next(batches)
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
    mean = float(total) / (config.steps % config.log_every or config.log_every)
    heldout = accuracy(model.eval(), task.heldout_batches(device))
    accelerator.log({"loss/train": mean, "heldout/accuracy": heldout}, step=config.steps)
    if not math.isfinite(mean):
        raise ValueError(f"optim.lr={config.optim.lr} made the loss infinite: set a lower optim.lr")
    finish_run(config, accelerator, config.steps, together=False)


@torch.no_grad()
def accuracy(model: HubModel, batches: Batches) -> float:
    """Share of the items whose label the model finds."""
    correct = [model(*inputs).argmax(1) == labels for inputs, labels in batches]
    return float(torch.cat(correct).cpu().double().mean())
