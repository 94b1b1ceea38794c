"""metrics.jsonl, through accelerate's tracker interface."""

import json
import os
import time
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from common.files import read_json, sha256

METRICS = "metrics.jsonl"
"""In the folder of a run: a line for each step that is logged."""
DONE = "done.json"
"""In the folder of a run whose result is written: the number of its steps, and the hash of its metrics."""


class JSONLTracker(GeneralTracker):
    """An accelerate tracker: `accelerator.log` feeds this file, tensorboard and wandb alike."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Nothing: config.yaml already holds it."""

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        text = json.dumps({"step": step, "time": time.time(), **values}) + "\n"
        with self.path.open("ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                text = "\n" + text  # a run was killed while it wrote the line before
            file.write(text.encode())


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The values of metrics.jsonl, a dict for each logged step, in order; the lines of a step are merged.

    Of values written twice, as after a stop, the last count. Raises ValueError where a finished run's file is missing
    or has changed.
    """
    steps: dict[int, dict[str, Any]] = {}
    path, done = run_dir / METRICS, run_dir / DONE
    known = read_json(done).get(METRICS) if done.exists() else None
    if known is not None and (not path.exists() or sha256(path) != known):
        raise ValueError(
            f"{path} is missing or not as it was written: restore it, or remove {done} if it was changed on purpose"
        )
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
            step = values["step"]
        except (ValueError, KeyError, TypeError):  # a line that a kill left half-written
            continue
        steps[step] = steps.get(step, {}) | values
    return [steps[step] for step in sorted(steps)]
