"""Times several ways of doing the same work in turn, and weighs each in a process of its own."""

import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.files import write_text
from common.memory import peak_memory

OUT = Path("runs/benchmarks")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The seconds of one way over rounds of alternating runs."""

    median: float
    """Seconds."""
    least: float
    most: float


def alternate(
    ways: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, Timing]:
    """Each way's seconds over `rounds` rounds, in each of which all take one turn; one round before is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            wait(device)
            start = time.perf_counter()
            way()
            wait(device)
            seconds[name].append(time.perf_counter() - start)
    counted = {name: every[1:] for name, every in seconds.items()}
    return {
        name: Timing(median=statistics.median(every), least=min(every), most=max(every))
        for name, every in counted.items()
    }


def wait(device: torch.device) -> None:
    """Returns when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def weighed(make: Callable[..., Callable[[], object]], *args: Any) -> float:
    """GiB by which one run of the work that `make(*args)` returns raises the peak memory.

    On a CPU it is measured in a fresh process, so `make`, a module's function, and `args` must be picklable. On a GPU,
    where only tensors count, it is measured in this process.
    """
    if DEVICE.type == "cuda":
        return added_memory(make, args)
    # not a Pool: its processes may have none of their own
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(added_memory, make, args).result()


def added_memory(make: Callable[..., Callable[[], object]], args: tuple[Any, ...]) -> float:
    """What `weighed` runs in its process."""
    work = make(*args)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak_memory(DEVICE)
    work()
    wait(DEVICE)
    return peak_memory(DEVICE) - before


def machine() -> str:
    """The hardware and the library that a table's numbers are of."""
    threads = torch.get_num_threads()
    plural = "" if threads == 1 else "s"
    where = f"{processor()}, {threads} thread{plural}"
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    return f"{where}, torch {torch.__version__.split('+')[0]}"


def processor() -> str:
    """The CPU's name, where the operating system says it."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.is_file() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def report(name: str, header: Sequence[str], rows: Sequence[Sequence[str]], facts: Any) -> str:
    """Prints the table, with the machine below it; writes it as runs/benchmarks/NAME.md, `facts` as NAME.json."""
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = f"{table}\n\n{machine()}\n"
    write_text(OUT / f"{name}.md", text)
    write_text(OUT / f"{name}.json", json.dumps(facts, indent=2, default=vars) + "\n")
    print(text)
    return text
