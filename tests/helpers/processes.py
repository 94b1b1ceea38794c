"""Commands on two processes of one machine, joined by gloo."""

import os
import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf

from common.config import to_plain
from common.files import write_text

ROOT = Path(__file__).parents[2]


def run_on_two(folder: Path, *words: str) -> None:
    """Runs `simvq` with these words on two CPU processes, in `folder`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--standalone", "-m", "pipelines", *words]
    known = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | known, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def save_experiment(path: Path, **configs: object) -> None:
    """Writes an experiment with these configs as its sections."""
    sections = {name: to_plain(config) for name, config in configs.items()}
    write_text(path, OmegaConf.to_yaml(OmegaConf.create({"run_dir": "runs", **sections})))
