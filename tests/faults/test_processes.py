"""Several processes: a mistake is told once, a killed one ends all within seconds, and the next start goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from common.checkpoints import list_checkpoints

ROOT = Path(__file__).parents[2]
STEPS = 100_000
"""More than are taken before the kill."""


def started(run_dir: Path, steps: int) -> subprocess.Popen[str]:
    """A training on two processes."""
    words = [str(ROOT / "configs/smoke.yaml"), f"run_dir={run_dir}", f"tokenizer.steps={steps}"]
    words += ["tokenizer.batch_size=8", "tokenizer.save_every=5", "tokenizer.log_every=5"]
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", "train-tokenizer", *words, "--processes", "2"],
        cwd=run_dir.parent,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    run = started(tmp_path / "run", steps=0)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 2
    (line,) = said.splitlines()
    assert line.startswith("simvq train-tokenizer: ") and line.endswith("set tokenizer.steps")


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_next_start_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "run" / "tokenizer"
    run = started(tmp_path / "run", STEPS)
    deadline = time.monotonic() + 240
    while not list_checkpoints(place):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.1)
    workers = psutil.Process(run.pid).children()
    (second,) = [one for one in workers if one.environ().get("LOCAL_RANK") == "1"]
    second.send_signal(signal.SIGKILL)
    _, said = run.communicate(timeout=10)
    assert run.returncode == 1 and not any(one.is_running() for one in workers)
    told = [line for line in said.splitlines() if "simvq" in line or "Traceback" in line]
    assert told == [
        "simvq train-tokenizer: process 1 was killed (SIGKILL); run the same command again to resume"
    ]
    assert "=====" not in said
    done = int(list_checkpoints(place)[-1].name.removeprefix("step-"))
    again = started(tmp_path / "run", done + 5)
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert (place / "done.json").exists()
