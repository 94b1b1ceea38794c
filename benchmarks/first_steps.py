"""The first steps of a tokenizer's recipe, on its own schedule, and what its training then says of itself.

`python -m benchmarks.first_steps CONFIG STEPS OUT [key=value ...]` writes OUT, a JSON file.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.files import write_text
from pipelines.experiment import read_experiment
from stage1_tokenizer.train import begin, evaluate, log_line, take_step


def first_steps(config: Path, steps: int, overrides: Sequence[str]) -> dict[str, float]:
    """The line of metrics after `steps` steps of a training that is then left where it is."""
    run, _, batches = begin(read_experiment(config, overrides).config("tokenizer"))
    for step in range(steps):
        losses, norm = take_step(run, batches, step)
    return log_line(run, losses, norm) | evaluate(run)


if __name__ == "__main__":
    path, steps, out, *overrides = sys.argv[1:]
    write_text(Path(out), json.dumps(first_steps(Path(path), int(steps), overrides), indent=2))
