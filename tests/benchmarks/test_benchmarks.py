"""Every benchmark runs, at sizes too small to time anything; what measures them tells slow from fast, big from small."""

import time
from collections.abc import Callable

import torch

from benchmarks.side_by_side import alternate, machine, weighed

CPU = torch.device("cpu")


def test_ways_take_turns_and_the_first_round_is_not_counted() -> None:
    turns: list[str] = []

    def slow() -> None:
        turns.append("slow")
        time.sleep(0.5 if len(turns) < 2 else 0.02)

    timings = alternate({"slow": slow, "fast": lambda: turns.append("fast")}, 3, CPU)
    assert turns == ["slow", "fast"] * 4
    assert 0.02 <= timings["slow"].least <= timings["slow"].median <= timings["slow"].most < 0.5
    assert timings["fast"].most < timings["slow"].least


def fill(mebibytes: int) -> Callable[[], object]:
    return lambda: torch.ones(mebibytes, 2**18)


def test_memory_is_what_the_work_adds() -> None:
    assert 0.4 < weighed(fill, 512) < 0.7
    assert weighed(fill, 0) < 0.1


def test_the_machine_is_named() -> None:
    assert "thread" in machine() or torch.cuda.is_available()
