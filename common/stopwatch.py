"""Where time goes: the loops name their parts, and a stopwatch, where one runs, adds up what each takes."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import ClassVar, Literal

import torch

Part = Literal["data", "forward", "search", "losses", "backward", "optimizer", "other"]
"""`other` is what no other part names."""


class Stopwatch:
    """Seconds and calls of each part while it runs; an inner part's time is not the outer's.

    On an accelerator, times are taken by events in its queue: they measure its work, not the calls that start it,
    and the program waits for it only at the end.
    """

    current: ClassVar["Stopwatch | None"] = None
    """The one that runs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.calls: Counter[Part] = Counter()
        self.seconds: dict[Part, float] = defaultdict(float)
        self._open: list[Part] = ["other"]
        self._moments: list[tuple[Part, float | torch.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, parts are timed; afterwards the sums are there."""
        Stopwatch.current = self
        self._mark()
        try:
            yield
        finally:
            Stopwatch.current = None
        self._mark()
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        for (part, start), (_, end) in pairwise(self._moments):
            self.seconds[part] += seconds_between(start, end)

    def enter(self, part: Part) -> None:
        """From here on time is this part's."""
        self.calls[part] += 1
        self._open.append(part)
        self._mark()

    def leave(self) -> None:
        """From here on time is again that of the part around this one."""
        self._open.pop()
        self._mark()

    def _mark(self) -> None:
        moment: float | torch.Event = time.perf_counter()
        if self.device.type != "cpu":
            moment = torch.Event(self.device, enable_timing=True)
            moment.record()
        self._moments.append((self._open[-1], moment))


def seconds_between(start: float | torch.Event, end: float | torch.Event) -> float:
    """From one moment to a later one."""
    if isinstance(start, torch.Event) and isinstance(end, torch.Event):
        return start.elapsed_time(end) / 1000
    assert isinstance(start, float) and isinstance(end, float)
    return end - start


@contextmanager
def part(name: Part) -> Iterator[None]:
    """Names what happens inside, also as a decorator; where no stopwatch runs, it does nothing."""
    # compiled code counts as one part: if it read Stopwatch.current, it would be compiled again when that changes
    stopwatch = None if torch.compiler.is_compiling() else Stopwatch.current
    if stopwatch is None:
        yield
        return
    stopwatch.enter(name)
    try:
        yield
    finally:
        stopwatch.leave()
