"""Runs that die inside a step, and whether two runs came to the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from common.tracking import read_metrics


class PowerCut(Exception):
    pass


def cut_in_step(monkeypatch: pytest.MonkeyPatch, module: Any, step: int) -> None:
    """Lets the next run of a module's loop die inside a step, after its forward pass and before its end."""
    original = module.optimize

    def dying(run: Any, *args: Any) -> Any:
        if args[-1] == step:
            raise PowerCut
        return original(run, *args)

    monkeypatch.setattr(module, "optimize", dying)


def without_times(run_dir: Path) -> list[dict[str, float]]:
    """The lines of metrics but for what clocks say."""
    return [
        {key: value for key, value in line.items() if not key.startswith(("time", "speed/"))}
        for line in read_metrics(run_dir)
    ]


def assert_same_run(cut: Path, whole: Path, *files: str) -> None:
    """The same metrics, and in these files of both folders the same tensors, bit for bit."""
    assert without_times(cut) == without_times(whole)
    for file in files:
        ours, theirs = load_file(cut / file), load_file(whole / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
