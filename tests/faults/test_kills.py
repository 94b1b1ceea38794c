"""A kill, or a disk that fails, before any change of a file; two commands at once: what comes out in the end is the same."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.fault_runs import SECTIONS, before, begun, copied, made, result
from helpers.forked import KILLED, Fault
from helpers.verdicts import CHANGED, EVERY, FINE, TOLD, TRACEBACK, WRONG, Tally, some, verdict

LIMITS = (10_000, 30_000, 100_000, 1_000_000)
"""Bytes of the largest file that a command may write."""
parts = pytest.mark.parametrize("every", EVERY)
verbs = pytest.mark.parametrize("verb", SECTIONS)
modalities = pytest.mark.parametrize("modality", ["images", "speech"])


@functools.cache
def changes(whole: Path, verb: str, modality: str) -> int:
    """How many changes of files a verb begins, in a folder that has what came before it."""
    folder = whole.parent / "counted"
    copied(whole, folder, *before(verb))
    ended = made(verb, folder, modality)
    assert ended.status == 0, ended.log
    assert result(folder, verb) == result(whole, verb)
    return ended.changes


@parts
@verbs
@modalities
def test_the_same_command_after_a_kill_ends_with_the_same_result(
    modality: str, verb: str, every: int, whole_of: Callable[[str], Path], tally: Tally
) -> None:
    whole = whole_of(modality)
    folder = whole.parent / "killed"
    points = changes(whole, verb, modality)
    for point in some(range(points), every // 2, modality, verb):
        copied(whole, folder, *before(verb))
        killed = made(verb, folder, modality, Fault("kill", point))
        assert killed.status == KILLED, killed.log
        again = made(verb, folder, modality)
        how = verdict(again, lambda: result(folder, verb) == result(whole, verb), lambda: False)
        tally.take("kill", f"{modality} {verb} {point} of {points}", how, again.log)
    tally.check()


@parts
@verbs
@modalities
def test_a_disk_that_fails_is_told_and_the_same_command_goes_on(
    modality: str, verb: str, every: int, whole_of: Callable[[str], Path], tally: Tally
) -> None:
    whole = whole_of(modality)
    folder = whole.parent / "disk"
    points = changes(whole, verb, modality)
    faults = [Fault("limit", size) for size in LIMITS]
    faults += [Fault(how, point) for point in range(0, points, 2) for how in ("full", "read-only")]  # type: ignore[arg-type]
    for fault in some(faults, every, modality, verb):
        copied(whole, folder, *before(verb))
        ended = made(verb, folder, modality, fault)
        again = made(verb, folder, modality) if ended.status else ended

        def same(again: object = again) -> bool:
            return again.status == 0 and result(folder, verb) == result(whole, verb)  # type: ignore[attr-defined]

        how = verdict(ended, same, same)
        tally.take(f"disk: {fault.how}", f"{modality} {verb} {fault}", how, ended.log + again.log)
    tally.check()


@parts
@verbs
@modalities
def test_of_two_commands_in_one_folder_the_second_is_refused_or_finds_all_done(
    modality: str, verb: str, every: int, whole_of: Callable[[str], Path], tally: Tally
) -> None:
    whole = whole_of(modality)
    folder = whole.parent / "two"
    points = changes(whole, verb, modality)
    for point in some(range(0, points, 6), every // 2, modality, verb):
        copied(whole, folder, *before(verb))
        first = begun(verb, folder, modality, Fault("stop", point), log="first")
        first.wait(changes=point + 1)
        second = made(verb, folder, modality)
        first.go_on()
        ended = first.wait()
        refused = "is being written by" in second.log
        how = verdict(second, lambda: True, lambda refused=refused: refused)  # type: ignore[misc]
        if how in (FINE, TOLD):
            equal = ended.status == 0 and result(folder, verb) == result(whole, verb)
            how = how if equal else {0: WRONG, 2: CHANGED}.get(ended.status, TRACEBACK)
        case = f"{modality} {verb} {point} of {points}"
        tally.take("two at once", case, how, second.log + ended.log)
    tally.check()
