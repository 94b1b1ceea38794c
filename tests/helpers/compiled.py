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
    """Trains to step 6 and resumes, in a process of its own; only the first part compiles if `first`, else the second.

    There the type checks of tests do not break graphs. The backend starts fast, and gives the same bits as eager mode.
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
