"""metrics.jsonl, through accelerate's tracker interface."""

import json
import os
import time
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process


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
    """The lines of metrics.jsonl by step; of steps that were run again after a stop, the last."""
    steps: dict[int, dict[str, Any]] = {}
    path = run_dir / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that was killed while writing it
            continue
        step = values["step"]
        steps[step] = steps.get(step, {}) | values
    return [steps[step] for step in sorted(steps)]
