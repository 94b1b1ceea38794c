"""profile: where the time of a step of training goes."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from tabulate import tabulate

import stage1_tokenizer.train
import stage2_prior.train
from common.memory import peak_memory
from common.processes import processes
from common.runs import finish_trackers
from common.stopwatch import Part, Stopwatch
from stage1_tokenizer.config import TrainTokenizerConfig
from stage2_prior.train_config import TrainPriorConfig

VERBS = ("train-tokenizer", "train-prior")
"""The verbs whose steps can be profiled."""
WARM_UP = 5
"""Steps that are not counted: the first ones start workers, allocate and choose algorithms."""
MOST_STEPS, MOST_SECONDS = 40, 60.0
"""Steps that are counted, and the time after which no further one starts."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What was counted over some steps."""

    stopwatch: Stopwatch
    steps: int
    items: int
    """In all these steps."""
    unit: str
    """What the items are called."""
    peak_memory: float
    """GiB since the process started."""

    @property
    def seconds(self) -> float:
        """Of all parts together."""
        return sum(self.stopwatch.seconds.values())


def profile(config: TrainTokenizerConfig | TrainPriorConfig) -> Profile:
    """Takes a few dozen steps of training in a folder that is then gone; the config's run_dir is not touched.

    A discriminator takes part from the first step on. Raises ValueError on several processes.
    """
    if processes().num_processes > 1:
        raise ValueError("profile counts the time of one process: start it without others")
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config, run_dir=Path(folder) / "run", trackers=())
        step: Callable[[int], object]
        if isinstance(config, TrainPriorConfig):
            prior, _, batches_of_codes = stage2_prior.train.begin(config)
            accelerator, per_step, unit = prior.accelerator, prior.codes_per_step, "codes"
            step = partial(stage2_prior.train.take_step, prior, batches_of_codes)
        else:
            tokenizer, _, batches = stage1_tokenizer.train.begin(with_discriminator(config))
            accelerator, per_step = tokenizer.accelerator, config.batch_size
            unit = tokenizer.modality.items
            step = partial(stage1_tokenizer.train.take_step, tokenizer, batches)
        stopwatch, steps = measured(step, accelerator.device)
        finish_trackers(accelerator)
    peak = peak_memory(accelerator.device)
    return Profile(
        stopwatch=stopwatch, steps=steps, items=steps * per_step, unit=unit, peak_memory=peak
    )


def with_discriminator(config: TrainTokenizerConfig) -> TrainTokenizerConfig:
    """The config whose discriminator, where it has one, does not wait for its step."""
    loss: Any = replace(config.loss, adversarial_start=0)
    return replace(config, loss=loss)


def check_verb(verb: str) -> None:
    """Raises ValueError for another verb than those whose steps can be profiled."""
    if verb not in VERBS:
        raise ValueError(f"{verb} can't be profiled: give one of {', '.join(VERBS)}")


def measured(step: Callable[[int], object], device: torch.device) -> tuple[Stopwatch, int]:
    """A stopwatch that ran over some steps after the first ones, and their number."""
    for index in range(WARM_UP):
        step(index)
    stopwatch, start, steps = Stopwatch(device), time.perf_counter(), 0
    with stopwatch.running():
        while steps < MOST_STEPS and time.perf_counter() - start < MOST_SECONDS:
            step(WARM_UP + steps)
            steps += 1
    return stopwatch, steps


def profile_table(profile: Profile) -> str:
    """Share, milliseconds and calls of each part in a step, as plain text for the terminal."""
    stopwatch, steps = profile.stopwatch, profile.steps
    lines = [("part", "share", "ms per step", "calls per step")]
    for part in get_args(Part):
        seconds, calls = stopwatch.seconds[part], stopwatch.calls[part] / steps
        if seconds:
            share, ms = seconds / profile.seconds, 1000 * seconds / steps
            lines.append((part, f"{share:.1%}", f"{ms:,.2f}", f"{calls:g}" if calls else ""))
    lines.append(("all", "100.0%", f"{1000 * profile.seconds / steps:,.2f}", ""))
    alignment = ("left", "right", "right", "right")
    table = tabulate(lines, tablefmt="plain", colalign=alignment, disable_numparse=True)
    threads = torch.get_num_threads()
    where = f"{stopwatch.device.type}, {threads} thread{'' if threads == 1 else 's'}"
    return (
        f"{table}\n\n{steps} steps after {WARM_UP} of warm-up ({where}): "
        f"{profile.items / profile.seconds:,.1f} {profile.unit} per second, peak memory {profile.peak_memory:.2f} GiB"
    )
