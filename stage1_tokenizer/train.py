"""train-tokenizer: trains on a data set; the same command again goes on where it stopped."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from common.checkpoints import Stateful, resume, save_checkpoint
from common.memory import peak_memory
from common.progress import Progress, machine, parameters
from common.runs import finish_trackers, is_finished, start_run
from common.seeding import seed_step
from common.stopwatch import part
from common.training import (
    Average,
    StepGuard,
    Throughput,
    decay_groups,
    learning_rate,
)
from stage1_tokenizer.codebook_usage import CodebookUse, effective_rank
from stage1_tokenizer.findings import constants, in_words
from stage1_tokenizer.images.training import ImageModality
from stage1_tokenizer.quantizers import Quantized, Quantizer
from stage1_tokenizer.speech.training import SpeechModality
from stage1_tokenizer.train_config import TrainImageTokenizerConfig, TrainSpeechTokenizerConfig

Task = ImageModality | SpeechModality
Config = TrainImageTokenizerConfig | TrainSpeechTokenizerConfig


@dataclass
class Training:
    """Everything that one step touches."""

    config: Config
    accelerator: Accelerator
    task: Task
    model: nn.Module
    optimizer: AcceleratedOptimizer
    critic: nn.Module | None
    critic_optimizer: AcceleratedOptimizer | None
    average: Average
    use: CodebookUse
    guard: StepGuard
    constant: dict[str, float]
    """What the best constant output reaches on the held-out items that are watched."""

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        parts: dict[str, Stateful] = {
            "model": self.task.model,
            "optimizer": self.optimizer.optimizer,
            "average": self.average,
            "use": self.use,
            "guard": self.guard,
        }
        if self.task.discriminator is not None and self.critic_optimizer is not None:
            parts["discriminator"] = self.task.discriminator
            parts["discriminator_optimizer"] = self.critic_optimizer.optimizer
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        return parts


def train_tokenizer(config: Config) -> Path:
    """Trains and returns the folder of the finished model, for `from_pretrained` of its class."""
    model_dir = config.run_dir / "model"
    if is_finished(config, model_dir):
        return model_dir
    run, first_step, batches = begin(config)
    accelerator = run.accelerator
    clock = Throughput()
    progress = Progress("train-tokenizer", first_step, config.steps, accelerator.is_main_process)
    progress.say(start_line(run))
    for step in progress:
        losses, norm = take_step(run, batches, step)
        clock.count(config.batch_size)
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            rate = clock.rate()
            watched = watch(run)
            metrics = log_line(run, losses, norm) | watched
            speed = {
                f"speed/{run.task.items}_per_second": rate,
                "speed/step_ms": 1000 * config.batch_size / rate,
                "speed/peak_memory_gib": peak_memory(accelerator.device),
            }
            accelerator.log(metrics | speed, step=done)
            progress.line(done, in_words(metrics | {"step": done}))
            clock.rate()  # what was watched took none of a step's time
        elif progress.overdue():
            progress.line(done, f"loss {float(total(losses).detach()):.3f}")
        if done % config.save_every == 0 or done == config.steps:
            save(run, done)
    if accelerator.is_main_process:
        with run.average.swapped_in():
            run.task.model.save_pretrained(model_dir)
    finish_trackers(accelerator)
    return model_dir


def begin(config: Config) -> tuple[Training, int, Iterator[dict[str, Any]]]:
    """The run as its folder has it, the number of steps that are done, and the batches that follow."""
    accelerator = start_run(config, config.run_dir, config.precision, config.trackers)
    run = prepare(config, accelerator)
    first_step = resume(config.run_dir, run.parts)
    batches = run.task.batches(
        accelerator,
        batch_size=config.batch_size,
        seed=config.seed,
        done=first_step * config.batch_size,
        workers=config.workers,
    )
    run.model.train()
    return run, first_step, batches


def take_step(
    run: Training, batches: Iterator[dict[str, Any]], step: int
) -> tuple[dict[str, Tensor], Tensor]:
    """One whole step, from its batch to the averages: losses, and the gradient's norm before clipping."""
    with part("data"):
        batch = next(batches)
    seed_step(run.config.seed, step, run.accelerator.process_index)
    if step == 0:
        start_codebook(run, batch)
    losses, quantized, norm = optimize(run, batch, step)
    with part("optimizer"):
        maintain(run.task.model.quantizer, quantized)
        run.average.update(step)
    run.use.update(run.accelerator.gather(quantized.codes), batch["epoch"])
    return losses, norm


def prepare(config: Config, accelerator: Accelerator) -> Training:
    """Data, networks and optimizers, on their device and wrapped for several processes."""
    torch.manual_seed(config.seed)
    task = task_of(config, accelerator.device)
    betas = config.optim.betas
    groups = parameter_groups(config, task)
    optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=betas, fused=True)
    model, prepared = accelerator.prepare(task.model, optimizer)
    critic = critic_optimizer = None
    if task.discriminator is not None:
        weights = task.discriminator.parameters()
        lr = config.loss.discriminator_lr
        adam = torch.optim.AdamW(weights, lr=lr, betas=betas, weight_decay=0.0, fused=True)
        adam.param_groups[0]["scale"] = lr / config.optim.lr
        critic, critic_optimizer = accelerator.prepare(task.discriminator, adam)
    return Training(
        config=config,
        accelerator=accelerator,
        task=task,
        model=model,
        optimizer=prepared,
        critic=critic,
        critic_optimizer=critic_optimizer,
        average=Average(task.model, config.ema_decay),
        use=CodebookUse(task.model.quantizer.spec, accelerator.device),
        guard=StepGuard(accelerator.device, config.max_skipped_steps, config.optim.grad_clip),
        constant=task.constant(),
    )


def task_of(config: Config, device: torch.device) -> Task:
    """What is particular to the config's modality."""
    if isinstance(config, TrainSpeechTokenizerConfig):
        return SpeechModality(config.data, config.model, config.loss, device)
    augment = {"crop": config.random_crop, "flip": config.flip}
    return ImageModality(config.data, config.model, config.loss, augment, device)


def parameter_groups(config: Config, task: Task) -> list[dict[str, Any]]:
    """Networks on the schedule (`scale` times it), the quantizer at constant learning rates (`fixed`)."""
    networks: list[tuple[str, nn.Parameter]] = []
    quantizer: list[tuple[str, nn.Parameter]] = []
    for name, parameter in task.model.named_parameters():
        (quantizer if name.startswith("quantizer.") else networks).append((name, parameter))
    groups = [g | {"scale": 1.0} for g in decay_groups(networks, config.optim.weight_decay)]
    for name, parameter in quantizer:
        fixed = config.basis_lr if name == "quantizer.basis" else config.quantizer_lr
        groups.append({"params": [parameter], "fixed": fixed, "weight_decay": 0.0})
    return groups


def start_codebook(run: Training, batch: dict[str, Any]) -> None:
    """The codebook's data-dependent start, from the first batch of all processes together."""
    with torch.no_grad():
        mine = run.task.latents(batch)
    # speech has another number of them in each process
    padded = run.accelerator.pad_across_processes(mine, pad_index=math.nan)
    latents = run.accelerator.gather(padded)
    run.task.model.quantizer.init_from(latents[~latents.isnan().all(1)])


def optimize(
    run: Training, batch: dict[str, Any], step: int
) -> tuple[dict[str, Tensor], Quantized, Tensor]:
    """One step of the networks, and of the discriminator where it is on: losses, codes, gradient norm."""
    config, accelerator, task = run.config, run.accelerator, run.task
    adversary = task.discriminator if step >= config.loss.adversarial_start else None
    if adversary is not None:
        adversary.requires_grad_(False)  # keeps the generator's gradient out of it
    with accelerator.autocast(), part("losses"):
        losses, fake, quantized = task.generator_losses(run.model, batch, adversary)
    norms = [backward(run, total(losses), run.model)]
    stepped = [run.optimizer]
    if adversary is not None and run.critic is not None and run.critic_optimizer is not None:
        adversary.requires_grad_(True)
        with accelerator.autocast(), part("losses"):
            losses["discriminator"] = task.discriminator_loss(run.critic, batch, fake)
        norms.append(backward(run, losses["discriminator"], run.critic))
        stepped.append(run.critic_optimizer)
    skip = run.guard.watch(step, losses, norms, scaled=accelerator.scaler is not None)
    for optimizer in stepped:
        for group in optimizer.param_groups:
            scheduled = learning_rate(step, config.steps, config.optim)
            group["lr"] = group["fixed"] if "fixed" in group else group["scale"] * scheduled
        optimizer.optimizer.found_inf = skip
        with part("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return losses, quantized, norms[0]


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of the generator's losses."""
    return torch.stack([v for k, v in losses.items() if k != "discriminator"]).sum()


def backward(run: Training, loss: Tensor, network: nn.Module) -> Tensor:
    """Gives the network the loss's gradient, clipped; returns its norm before that."""
    with part("backward"):
        run.accelerator.backward(loss)
    with part("optimizer"):
        return run.accelerator.clip_grad_norm_(network.parameters(), run.config.optim.grad_clip)


def maintain(quantizer: Quantizer, quantized: Quantized) -> None:
    """The quantizer's own part of a step: averages and resets, from what was quantized."""
    assert quantized.input_codes is not None
    quantizer.accumulate(quantized.inputs, quantized.input_codes)
    quantizer.after_step()


def log_line(run: Training, losses: dict[str, Tensor], norm: Tensor) -> dict[str, float]:
    """What a line of metrics.jsonl says: losses over all processes, the codebook's use."""
    means = run.accelerator.reduce(torch.stack([v.detach() for v in losses.values()]), "mean")
    metrics = {f"loss/{k}": v for k, v in zip(losses, means.tolist(), strict=True)}
    return {
        **metrics,
        "loss/total": sum(v for k, v in metrics.items() if k != "loss/discriminator"),
        **run.use.metrics(),
        "codebook/size": sum(run.task.model.quantizer.spec.sizes),
        "codebook/dim": run.config.model.quantizer.code_dim,
        "codebook/effective_rank": effective_rank(run.task.model.codebook.detach()),
        "data/bad": run.task.bad.total,
        "optim/lr": run.optimizer.param_groups[0]["lr"],
        "optim/grad_norm": float(norm),
        "optim/clipped": run.guard.clipped_share(),
        "optim/skipped": run.guard.check(),
        **run.constant,
    }


def start_line(run: Training) -> str:
    """What is trained on what, where, and what the best constant output would reach."""
    accelerator = run.accelerator
    return (
        f"train-tokenizer in {run.config.run_dir}: {run.task.about()}; {parameters(run.task.model)}; "
        f"{machine(accelerator.device, accelerator.num_processes)}; {constants(run.constant)}"
    )


def watch(run: Training) -> dict[str, float]:
    """Measures of the averaged model on held-out items."""
    run.task.model.eval()
    with run.average.swapped_in():
        metrics = run.task.watch()
    run.task.model.train()
    return metrics


def save(run: Training, done: int) -> None:
    """A checkpoint, and the held-out items as the averaged model renders them."""
    if run.accelerator.is_main_process:
        save_checkpoint(run.config.run_dir, done, run.parts, run.config.keep_checkpoints)
        run.task.model.eval()
        with run.average.swapped_in():
            run.task.draw(run.config.run_dir / "pictures" / f"step-{done:08d}")
        run.task.model.train()
    run.accelerator.wait_for_everyone()
