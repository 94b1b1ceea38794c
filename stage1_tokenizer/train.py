"""train-tokenizer: trains on a data set; run again, the same command resumes where it stopped."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from common.checkpoints import is_logged, resume, save_checkpoint
from common.files import is_sealed
from common.hub import save_weights
from common.memory import peak_memory
from common.processes import broadcast_from_first
from common.progress import Progress, machine, parameters
from common.runs import finish_run, is_finished, keep_inputs, refuse_other_inputs, start_run
from common.seeding import seed_step
from common.stopwatch import part
from common.training import Throughput
from stage1_tokenizer.batches import Batch
from stage1_tokenizer.codebook_usage import effective_rank
from stage1_tokenizer.config import TrainTokenizerConfig
from stage1_tokenizer.findings import BEST_STEP, constant_in_words, held_out_loss, in_words
from stage1_tokenizer.modality import ModalityTraining
from stage1_tokenizer.prepare import DISCRIMINATOR, Training, prepare, set_training
from stage1_tokenizer.step import optimize, total, update_codebook


def train_tokenizer(config: TrainTokenizerConfig) -> Path:
    """Trains and returns the folder of the finished model, for `from_pretrained` of its class."""
    model_dir = config.run_dir / "model"
    if is_finished(config, model_dir):
        return model_dir
    check_best(config)
    run, first_step, batches = begin(config)
    accelerator = run.accelerator
    last_step = first_step if run.best.should_stop(config.patience) else config.steps
    progress = Progress("train-tokenizer", first_step, last_step, accelerator.is_main_process)
    progress.say(start_line(run))
    if config.init_from is not None and first_step == 0:
        log_start(run)
    clock = Throughput()
    done = first_step
    for step in progress:
        losses, norm = take_step(run, batches, step)
        clock.count(config.batch_size)
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            rate = clock.rate()
            evaluated = evaluate(run)
            keep_best(run, evaluated, done)
            metrics = log_line(run, losses, norm) | evaluated
            speed = {
                f"speed/{run.modality.items}_per_second": rate,
                "speed/step_ms": 1000 * config.batch_size / rate,
                "speed/peak_memory_gib": peak_memory(accelerator.device),
            }
            accelerator.log(metrics | speed, step=done)
            progress.line(done, in_words(metrics | {"step": done}))
            clock.rate()  # the evaluation took none of a step's time
        elif progress.overdue():
            progress.line(done, f"loss {float(total(losses).detach()):.3f}")
        last = done == config.steps or run.best.should_stop(config.patience)
        if done % config.save_every == 0 or last:
            save(run, done)
            clock.rate()  # nor did the checkpoint
        if last:
            break
    if accelerator.is_main_process:
        save_model(run)
    finish_run(config, accelerator, done)
    return model_dir


def check_best(config: TrainTokenizerConfig) -> None:
    """Raises ValueError where patience is on for a run that is to go on, whose best model is missing or damaged."""
    best = config.run_dir / "best"
    if config.patience and is_logged(config.run_dir, BEST_STEP) and not is_sealed(best):
        raise ValueError(
            f"{best} is missing or damaged, and no checkpoint holds it: remove {config.run_dir}, or set patience=0"
        )


def begin(config: TrainTokenizerConfig) -> tuple[Training, int, Iterator[Batch]]:
    """The run as its folder has it, the number of steps that are done, and the batches that follow."""
    accelerator = start_run(config, config.precision, config.trackers)
    run = prepare(config, accelerator)
    inputs = {"training items": run.modality.train_set.fingerprint}
    refuse_other_inputs(config.run_dir, inputs)
    keep_inputs(config.run_dir, inputs)
    first_step = resume(config.run_dir, run.parts)
    batches = run.modality.batches(
        accelerator,
        batch_size=config.batch_size,
        seed=config.seed,
        done=first_step * config.batch_size,
        workers=config.workers,
    )
    run.model.train()
    set_training(config, run.modality.tokenizer)
    return run, first_step, batches


def take_step(
    run: Training, batches: Iterator[Batch], step: int
) -> tuple[dict[str, Tensor], Tensor]:
    """One whole step, from its batch to the averages: losses, and the gradient's norm before clipping."""
    config, world = run.config, run.accelerator.num_processes
    with part("data"):
        batch = next(batches)
    items = config.batch_size // world
    run.bad_items.count(batch["bad"], batch["epoch"], items, batch["unfit"])
    seed_step(config.seed, step, run.accelerator.process_index)
    if step == 0 and config.init_from is None:
        init_codebook(run, batch)
    losses, quantized, norm = optimize(run, batch, step)
    with part("optimizer"):
        if "codebook" not in config.freeze:
            update_codebook(run.modality.tokenizer.quantizer, quantized)
        run.average.update(step)
    codes = torch.cat([some.codes for some in quantized])
    run.use.update(run.accelerator.gather(codes), batch["epoch"])
    return losses, norm


def init_codebook(run: Training, batch: Batch) -> None:
    """Initialises the codebook from the first batch of all processes together."""
    with torch.no_grad():
        mine = run.modality.latents(batch)
    # of speech each process has another count of them
    padded = run.accelerator.pad_across_processes(mine, pad_index=math.nan)
    latents = run.accelerator.gather(padded)
    run.modality.tokenizer.quantizer.init_from(latents[~latents.isnan().all(1)])


def log_line(run: Training, losses: dict[str, Tensor], norm: Tensor) -> dict[str, float]:
    """What a line of metrics.jsonl says: losses over all processes, the codebook's use."""
    means = run.accelerator.reduce(torch.stack([v.detach() for v in losses.values()]), "mean")
    metrics = {f"loss/{k}": v for k, v in zip(losses, means.tolist(), strict=True)}
    tokenizer, (bad, unfit) = run.modality.tokenizer, run.bad_items.totals(run.accelerator.device)
    return {
        **metrics,
        "loss/total": sum(v for k, v in metrics.items() if k != "loss/discriminator"),
        **run.use.metrics(),
        "codebook/size": sum(tokenizer.quantizer.spec.sizes),
        "codebook/levels": tokenizer.quantizer.spec.levels,
        "codebook/dim": tokenizer.quantizer.config.code_dim,
        "codebook/effective_rank": effective_rank(tokenizer.codebook.detach()),
        "data/bad": bad,
        "data/unfit": unfit,
        "optim/lr": run.optimizer.param_groups[0]["lr"],
        "optim/grad_norm": float(norm),
        "optim/clipped": run.guard.clipped_share(),
        "optim/skipped": run.guard.check(),
        **({BEST_STEP: run.best.step} if run.config.patience else {}),
        **run.constant,
    }


def start_line(run: Training) -> str:
    """What is trained on what, where, and what the best constant output would reach."""
    accelerator, source = run.accelerator, run.config.init_from
    return (
        f"train-tokenizer in {run.config.run_dir}{f' from {source}' if source else ''}: {run.modality.describe()}; "
        f"{parameters(run.modality.tokenizer)}; "
        f"{machine(accelerator.device, accelerator.num_processes)}; {constant_in_words(run.constant)}"
    )


@contextmanager
def averaged(run: Training) -> Iterator[ModalityTraining]:
    """Inside, the modality's tokenizer has the averaged weights and is in eval mode."""
    run.modality.tokenizer.eval()
    with run.average.swapped_in():
        yield run.modality
    set_training(run.config, run.modality.tokenizer)


def evaluate(run: Training) -> dict[str, float]:
    """Metrics of the averaged model on held-out items."""
    with averaged(run) as modality:
        return modality.evaluate()


def log_start(run: Training) -> None:
    """Evaluates the weights that the run starts from, as step 0."""
    evaluated = evaluate(run)
    run.accelerator.log(evaluated | run.constant, step=0)
    keep_best(run, evaluated, 0)


def keep_best(run: Training, evaluated: dict[str, float], done: int) -> None:
    """With patience: records an evaluation, and writes the averaged model to `best` if it is the best so far."""
    if not run.config.patience:
        return
    loss = torch.tensor(held_out_loss(evaluated), device=run.accelerator.device)
    better = run.best.take(float(broadcast_from_first(loss)), done)
    if better and run.accelerator.is_main_process:
        with run.average.swapped_in():
            run.modality.tokenizer.save_pretrained(run.config.run_dir / "best")


def save_model(run: Training) -> None:
    """Writes the run's result: the averaged model (with patience, the best one) and the discriminator."""
    run_dir, tokenizer = run.config.run_dir, run.modality.tokenizer
    if run.modality.discriminator is not None:
        for buffer in run.modality.discriminator.buffers():
            buffer.nan_to_num_(0.0, 0.0, 0.0)  # skipped steps may leave these, which nothing reads
        save_weights(run.modality.discriminator, run_dir / DISCRIMINATOR)
    if run.config.patience and math.isfinite(run.best.loss):
        best = type(tokenizer).from_pretrained(run_dir / "best")
        best.save_pretrained(run_dir / "model")
    else:
        with run.average.swapped_in():
            tokenizer.save_pretrained(run_dir / "model")


def save(run: Training, done: int) -> None:
    """Writes examples of held-out reconstructions, then a checkpoint, so that every checkpoint has examples."""
    run.bad_items.totals(run.accelerator.device)  # what the other processes have met is kept, too
    if run.accelerator.is_main_process:
        with averaged(run) as modality:
            modality.save_examples(run.config.run_dir / "examples" / f"step-{done:08d}")
        save_checkpoint(run.config.run_dir, done, run.parts, run.config.keep_checkpoints)
    run.accelerator.wait_for_everyone()
