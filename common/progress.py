"""What a training says while it runs: a bar on a terminal, and lines that also reach a file."""

import sys
import time
from collections.abc import Iterator

import torch
from torch import nn
from tqdm.auto import tqdm

FIRST_AFTER = 10.0
"""Seconds until a first line is written, even if no logged step is due yet."""
THEN_EVERY = 60.0
"""Seconds after any line until another is written, even if no logged step is due yet."""


class Progress:
    """The steps of a training, and lines about them; on other processes than the first it is silent."""

    def __init__(self, verb: str, first_step: int, steps: int, main: bool) -> None:
        self.verb, self.first_step, self.steps, self.main = verb, first_step, steps, main
        self.start = self.last_line = time.monotonic()
        self.wait = FIRST_AFTER

    def __iter__(self) -> Iterator[int]:
        """The indices of the steps that are still to be done."""
        self.bar = tqdm(
            range(self.first_step, self.steps),
            initial=self.first_step,
            total=self.steps,
            desc=self.verb,
            disable=not self.main or None,
        )
        yield from self.bar

    def say(self, text: str) -> None:
        """A line on standard output, above the bar where there is one."""
        if self.main:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def line(self, done: int, text: str) -> None:
        """A line on the step that was just done: what was measured, the pace, and the time to go."""
        self.last_line, self.wait = time.monotonic(), THEN_EVERY
        pace = (self.last_line - self.start) / (done - self.first_step)
        left = duration((self.steps - done) * pace)
        self.say(
            f"step {done:,} of {self.steps:,}: {text}; {1000 * pace:.0f} ms per step, {left} to go"
        )

    def overdue(self) -> bool:
        """Whether it is time for a line although none is due by the number of steps."""
        return self.main and time.monotonic() - self.last_line > self.wait


def duration(seconds: float) -> str:
    """Hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def machine(device: torch.device, processes: int) -> str:
    """Where a training runs: the device, the threads of a CPU, the number of processes."""
    threads = torch.get_num_threads()
    where = device.type
    if device.type == "cpu":
        where += f" ({threads} thread{'' if threads == 1 else 's'})"
    return where + (f", {processes} processes" if processes > 1 else "")


def parameters(module: nn.Module) -> str:
    """The number of parameters, in millions."""
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters"
