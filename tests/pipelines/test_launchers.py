"""Who starts the processes changes nothing: the recipe says what is computed, a launcher's config where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.image_runs import tokenizer_config
from helpers.processes import ROOT, save_experiment
from helpers.runs import assert_same_run

from stage1_tokenizer.train import train_tokenizer

ACCELERATE = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
use_cpu: true
mixed_precision: bf16
num_machines: 1
num_processes: 2
machine_rank: 0
main_training_function: main
"""
"""As `accelerate config` writes it. Of MULTI_CPU it starts one process."""


def start(folder: Path, *words: str) -> None:
    """Runs a command of Python in a folder."""
    known = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    known["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = "4"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | known,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_accelerate_s_config_starts_the_same_training(tmp_path: Path) -> None:
    """Bit for bit; its mixed precision and gradient accumulation are not the recipe's."""
    save_experiment(tmp_path / "t.yaml", tokenizer=tokenizer_config(tmp_path / "ours", steps=4))
    words = ["pipelines", "train-tokenizer", "t.yaml"]
    start(tmp_path, *words, "--processes", "2")
    (tmp_path / "accelerate.yaml").write_text(ACCELERATE)
    launch = ["accelerate.commands.launch", "--config_file", "accelerate.yaml", "-m"]
    start(tmp_path, *launch, *words, f"tokenizer.run_dir={tmp_path / 'theirs'}")
    assert '"processes": 2' in (tmp_path / "theirs" / "environment.json").read_text()
    assert_same_run(tmp_path / "theirs", tmp_path / "ours", "model/model.safetensors")


def test_a_config_of_accelerate_that_shards_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="distributed_type is FSDP, which cuts up networks"):
        train_tokenizer(tokenizer_config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
