"""How a case of a fault ended: in one of two good ways, or in a bad one."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from helpers.forked import Ended

FINE, TOLD = "fine and equal", "one sentence"
WRONG, TRACEBACK, CHANGED, HANG = "silently wrong", "tracebacks", "something changed", "hangs"
VERDICTS = (FINE, TOLD, TRACEBACK, WRONG, CHANGED, HANG)
EVERY = [50, pytest.param(12, marks=pytest.mark.slow)]
"""One case in this many is tried, and two kills, for each takes a process: in fast tests, and in slow ones."""
if "FAULTS_EVERY" in os.environ:  # make faults, make test-all
    EVERY = [int(os.environ["FAULTS_EVERY"])]
SLOW_VERB = ("speech", "score")
"""Takes ten times as long as others, for its networks that predict opinions: `some` takes a sixth of its cases."""
Case = TypeVar("Case")


class Tally:
    """The verdicts of a test's cases."""

    def __init__(self) -> None:
        self.cases: list[tuple[str, str, str]] = []
        self.wrong: list[str] = []

    def take(self, kind: str, case: str, verdict: str, log: str = "") -> None:
        """Counts a case; what is wrong with it is told at the end of the test."""
        self.cases.append((kind, case, verdict))
        if verdict not in (FINE, TOLD):
            self.wrong.append(f"{kind}, {case}: {verdict}\n{log[-1500:]}")
            print(self.wrong[-1], flush=True)  # at once, with pytest -s

    def check(self) -> None:
        """Fails where a case ended badly, and where there was none."""
        assert self.cases
        assert not self.wrong, "\n\n".join(self.wrong)


def some(cases: Sequence[Case], every: int, modality: str, verb: str) -> Sequence[Case]:
    """Every `every`-th case, at least one if any, from a start that depends on modality and verb."""
    every = max(every, 1) * (6 if (modality, verb) == SLOW_VERB else 1)
    start = int(hashlib.sha256(f"{modality} {verb}".encode()).hexdigest(), 16)
    return cases[start % min(every, len(cases)) :: every] if cases else cases


def verdict(ended: Ended, equal: Callable[[], bool], unchanged: Callable[[], bool]) -> str:
    """Of a command that met a fault."""
    if ended.hung:
        return HANG
    if ended.status == 0:
        return FINE if equal() else WRONG
    if ended.status == 2 and len(ended.sentences) == 1 and "Traceback" not in ended.log:
        return TOLD if unchanged() else CHANGED
    return TRACEBACK


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, but for what says when and where a run began and who writes it."""
    own = ("environment.json", "config.yaml")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in own and not path.name.startswith(".")
    }
