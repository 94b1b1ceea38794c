"""Trainings through torch.compile."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.multiprocessing
from helpers.runs import PowerCut, cut_in_step

import common.training


def cut_and_resumed(module: Any, train: Callable[[Any], Any], config: Any, first: bool) -> None:
    """Trains in a process of its own, which dies in step 6 and goes on; `first` says which of the two compiles.

    There the checks of types, which only tests have, do not break graphs. The backend is one that starts soon, and
    computes the same bits as no compiler.
    """
    torch.multiprocessing.spawn(_cut_and_resumed, (module.__name__, train, config, first))


def _cut_and_resumed(
    _: int, module: str, train: Callable[[Any], Any], config: Any, first: bool
) -> None:
    torch.set_num_threads(1)
    common.training.COMPILER = "aot_eager"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        cut_in_step(patch, __import__(module, fromlist=["optimize"]), 6)
        train(replace(config, compile=first))
    train(replace(config, compile=not first))
