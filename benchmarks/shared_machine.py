"""A training step alone on the machine and beside busy loops, by how OpenMP's threads wait for each other.

Each setting is a process of its own, for OpenMP reads the environment once; settings take turns.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.side_by_side import report
from common.config import load_config
from pipelines.experiment import read_experiment
from stage1_tokenizer.train import begin, take_step

SETTINGS = {
    "libgomp's own (300,000 spins)": {"GOMP_SPINCOUNT": "300000"},
    "30,000 spins": {"GOMP_SPINCOUNT": "30000"},
    "10,000 spins": {"GOMP_SPINCOUNT": "10000"},
    "3,000 spins": {"GOMP_SPINCOUNT": "3000"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
WARM_UP = 5


@dataclass(frozen=True, kw_only=True)
class SharedMachineConfig:
    """How much is timed."""

    rounds: int = 3
    steps: int = 25
    """Counted steps of configs/digits.yaml in one process."""
    loops: int = 4
    """Busy loops of the other column."""


def step_ms(steps: int) -> float:
    """The median step of the digits tokenizer in this process, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        experiment = read_experiment(Path("configs/digits.yaml"), [f"run_dir={folder}"])
        run, _, batches = begin(experiment.config("tokenizer"))
        seconds = []
        for step in range(WARM_UP + steps):
            start = time.perf_counter()
            take_step(run, batches, step)
            seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds[WARM_UP:])


def in_process(setting: dict[str, str], steps: int) -> float:
    """`step_ms` in a process of its own with these variables."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-m", "benchmarks.shared_machine", "--steps", str(steps)]
    done = subprocess.run(command, env=plain | setting, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """A context in which `loops` processes run endless loops."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()


def compare(config: SharedMachineConfig) -> dict[str, tuple[float, float]]:
    """Of each setting the median over the rounds, alone and beside the loops, in ms."""
    seconds_of: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in SETTINGS}
    for _ in range(config.rounds):
        for name, setting in SETTINGS.items():
            seconds_of[name][0].append(in_process(setting, config.steps))
        with busy(config.loops):
            for name, setting in SETTINGS.items():
                seconds_of[name][1].append(in_process(setting, config.steps))
    return {name: (median(alone), median(beside)) for name, (alone, beside) in seconds_of.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--steps"]:
        print(json.dumps(step_ms(int(sys.argv[2]))))
    else:
        CONFIG = load_config(SharedMachineConfig, None, sys.argv[1:])
        results = compare(CONFIG)
        first = results["libgomp's own (300,000 spins)"]
        rows = [
            [
                name,
                f"{alone:.0f}",
                f"{alone / first[0]:.2f}",
                f"{beside:.0f}",
                f"{beside / first[1]:.2f}",
            ]
            for name, (alone, beside) in results.items()
        ]
        header = ["waiting", "alone, ms", "ratio", f"beside {CONFIG.loops} busy loops, ms", "ratio"]
        report("shared_machine", header, rows, results)
