"""train-prior: trains on codes; run again, the same command resumes where it stopped."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.checkpoints import is_logged, resume, save_checkpoint
from common.codes import hash_of_codes
from common.memory import peak_memory
from common.optimizing import clipped_norm, nan_if_not_finite, step_and_clear
from common.progress import Progress, machine, parameters
from common.runs import finish_run, is_finished, keep_inputs, refuse_other_inputs, start_run
from common.seeding import seed_step
from common.sharding import whole, whole_state
from common.stopwatch import part
from common.training import Throughput, learning_rate, unsynchronised
from stage2_prior.build import load_prior
from stage2_prior.data import Batch, held_out_batches, lacks_a_batch, training_batches
from stage2_prior.findings import in_words
from stage2_prior.prepare import Training, prepare
from stage2_prior.train_config import TrainPriorConfig


def train_prior(config: TrainPriorConfig) -> Path:
    """Trains and returns the folder of the prior with the lowest held-out loss, `run_dir/best`."""
    best = config.run_dir / "best"
    refuse_other_inputs(config.run_dir, hash_of_codes(config.codes))
    if is_finished(config, best):
        return best
    check_best(config.run_dir, best)
    run, first_step, batches = begin(config)
    accelerator = run.accelerator
    last_step = first_step if run.best.should_stop(config.patience) else config.steps
    progress = Progress("train-prior", first_step, last_step, accelerator.is_main_process)
    progress.say(start_line(run))
    if config.init_from is not None and first_step == 0:
        validate(run, 0)
    clock = Throughput()
    done = first_step
    for step in progress:
        loss, norm = take_step(run, batches, step)
        clock.count(run.codes_per_step)
        done = step + 1
        evaluates = ends_epoch(done, config.batch_size, len(run.train)) or done == config.steps
        if done % config.log_every == 0 or evaluates:
            metrics = log_line(run, loss, norm, clock)
            accelerator.log(metrics, step=done)
            progress.line(done, f"loss {metrics['loss/train']:.3f}")
        elif progress.overdue():
            progress.line(done, f"loss {float(loss.detach()):.3f}")
        if evaluates:
            progress.line(done, in_words(validate(run, done)))
            clock.rate()  # the evaluation's time does not count
        last = done == config.steps or run.best.should_stop(config.patience)
        if done % config.save_every == 0 or last:
            save_checkpoint(config.run_dir, done, run.parts, config.keep_checkpoints)
            accelerator.wait_for_everyone()
            clock.rate()  # nor the checkpoint's
        if last:
            break
    finish_run(config, accelerator, done)
    return best


def check_best(run_dir: Path, best: Path) -> None:
    """Raises ValueError if a resumed run was evaluated, but its best prior is missing or damaged."""
    if is_logged(run_dir, "heldout/nats_per_code"):
        try:
            load_prior(best)
        except (OSError, ValueError) as error:
            raise ValueError(f"{error}; no checkpoint holds it: remove {run_dir}") from None


def begin(config: TrainPriorConfig) -> tuple[Training, int, Iterator[Batch]]:
    """The training, resumed from its newest checkpoint if any; the number of steps done; the batches that follow."""
    accelerator = start_run(config, config.precision, config.trackers)
    run = prepare(config, accelerator)
    keep_inputs(config.run_dir, hash_of_codes(config.codes))
    first_step = resume(config.run_dir, run.parts)
    batches = training_batches(
        run.train,
        batch_size=config.batch_size,
        done=first_step * config.batch_size,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        workers=config.workers,
    )
    run.model.train()
    return run, first_step, batches


def take_step(run: Training, batches: Iterator[Batch], step: int) -> tuple[Tensor, Tensor]:
    """One whole step, from its batch to the averages: the loss, and the gradient's norm before clipping."""
    accelerator = run.accelerator
    with part("data"):
        batch = [tensor.to(accelerator.device, non_blocking=True) for tensor in next(batches)]
    seed_step(run.config.seed, step, accelerator.process_index)
    loss = gradients(run, batch)
    norm = optimize(run, loss, step)
    with part("optimizer"):
        run.average.update(step)
    return loss.detach(), norm


def log_line(run: Training, loss: Tensor, norm: Tensor, clock: Throughput) -> dict[str, float]:
    """The metrics to log: loss and norm of this step, skipped steps in all, clipping and speed since the last line."""
    return {
        "loss/train": float(run.accelerator.reduce(loss, "mean")),
        "optim/lr": run.optimizers[0].param_groups[0]["lr"],
        "optim/grad_norm": float(norm),
        "optim/clipped": run.guard.clipped_share(),
        "optim/skipped": run.guard.check(),
        "speed/codes_per_second": clock.rate(),
        "speed/peak_memory_gib": peak_memory(run.accelerator.device),
    }


def start_line(run: Training) -> str:
    """What is trained on what, where, and what chance and n-grams reach."""
    accelerator, nats, source = run.accelerator, run.baselines, run.config.init_from
    codes = run.train.mean_codes
    bits = sum(map(math.log2, run.prior.config.level_sizes)) / run.prior.config.levels * codes
    return (
        f"train-prior in {run.config.run_dir}{f' from {source}' if source else ''}: {len(run.train):,} sequences of {codes:.4g} codes ({bits:,.0f} bits each), "
        f"{len(run.held_out):,} held out, {run.prior.config.classes} classes; {parameters(run.prior)}; "
        f"{machine(accelerator.device, accelerator.num_processes)}; held-out nats per code of chance "
        f"{nats['baseline/chance_nats']:.3f}, of unigrams {nats['baseline/unigram_nats']:.3f}, of bigrams "
        f"{nats['baseline/bigram_nats']:.3f}"
    )


def gradients(run: Training, batch: Sequence[Tensor]) -> Tensor:
    """Computes the gradient of a batch, part by part; returns the mean loss over all targets.

    Each part is weighted by its number of targets.
    """
    count, accelerator = run.config.accumulation, run.accelerator
    targets, losses = run.prior.num_targets(batch[1]), []
    parts = zip(*(tensor.chunk(count) for tensor in batch), strict=True)
    for i, some in enumerate(parts):
        with unsynchronised(accelerator, run.model, last=i + 1 == count):
            with accelerator.autocast(), part("forward"):
                loss = run.model(*some) * (run.prior.num_targets(some[1]) / targets)
                loss = balanced(run, loss, targets)
            with part("backward"):
                accelerator.backward(nan_if_not_finite(loss))
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def balanced(run: Training, loss: Tensor, targets: Tensor) -> Tensor:
    """This process's loss, weighted so that the mean over processes is the mean over the whole batch.

    The shares of the processes may have different numbers of `targets`.
    """
    if run.accelerator.num_processes == 1:
        return loss
    return loss * (targets / run.accelerator.reduce(targets.clone(), "mean"))


def optimize(run: Training, loss: Tensor, step: int) -> Tensor:
    """One step of the optimizers; returns the gradient's norm before clipping."""
    config, scaler = run.config, run.accelerator.scaler
    optimizers = [each.optimizer for each in run.optimizers]
    norm = whole(clipped_norm(run.model, config.optim.grad_clip, optimizers, scaler))
    lr = learning_rate(step, config.steps, config.optim)
    skip = run.guard.inspect(step, {"train": loss}, [norm], scaled=scaler is not None)
    for optimizer in optimizers:
        optimizer.found_inf = skip
        for group in optimizer.param_groups:
            group["lr"] = lr
    step_and_clear(optimizers, scaler, skip)
    return norm


def ends_epoch(done: int, batch_size: int, items: int) -> bool:
    """Whether the step that was just done is the one in which an epoch ended."""
    return done * batch_size // items > (done - 1) * batch_size // items


@torch.no_grad()
def validate(run: Training, done: int) -> dict[str, float]:
    """The held-out loss over every held-out item, logged; the model is kept if it is the best so far."""
    accelerator, prior = run.accelerator, run.prior
    prior.eval()
    with run.average.swapped_in():
        total, count = held_out_sums(run)
        nats = total / count
        if run.best.take(nats, done):
            weights = whole_state(prior)
            if accelerator.is_main_process:
                prior.save_pretrained(run.config.run_dir / "best", weights)
    prior.train()
    metrics = {
        "heldout/nats_per_code": nats,
        "heldout/bits_per_code": nats / math.log(2),
        "heldout/bits_per_item": total / math.log(2) / len(run.held_out),
        "heldout/best_nats_per_code": run.best.loss,
        **run.baselines,
    }
    if run.codes_per_second is not None:
        codes_alone = int(count) - len(run.held_out)  # the rest are ends: they too cost bits
        seconds = codes_alone / run.codes_per_second
        metrics["heldout/bits_per_second"] = total / math.log(2) / seconds
        metrics["heldout/codes"], metrics["heldout/clips"] = codes_alone, len(run.held_out)
    accelerator.log(metrics, step=done)
    accelerator.wait_for_everyone()
    return metrics


def held_out_sums(run: Training) -> tuple[float, float]:
    """The summed nats of all held-out items, and the number of their targets."""
    accelerator, prior = run.accelerator, run.prior
    share = {
        "batch_size": max(run.config.batch_size // accelerator.num_processes, 1),
        "rank": accelerator.process_index,
        "world": accelerator.num_processes,
    }
    totals = torch.zeros(2, dtype=torch.float32, device=accelerator.device)
    for batch in held_out_batches(run.held_out, **share):
        conditions, codes = (tensor.to(accelerator.device) for tensor in batch)
        with accelerator.autocast():
            loss = prior(conditions, codes)
        count = prior.num_targets(codes)
        totals += torch.stack([loss * count, count])
    if run.config.shard and lacks_a_batch(run.held_out, **share):
        # the others need this process's part of the weights for their last one
        prior(*(tensor.to(accelerator.device) for tensor in run.held_out[[(0, 0)]]))
    total, count = accelerator.reduce(totals, "sum").tolist()
    return total, count
