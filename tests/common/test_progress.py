"""The lines of a training: first within seconds, flushed, with the pace and the time to go."""

import pytest

import common.progress
from common.progress import Progress, duration


def test_durations_are_told_in_two_units_at_most() -> None:
    assert [duration(s) for s in (0.4, 59, 61, 3600, 7325)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h 0 min",
        "2 h 2 min",
    ]


def test_a_line_is_overdue_after_ten_seconds_and_then_every_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(common.progress.time, "monotonic", lambda: now[0])
    progress = Progress("train", 5, 105, main=True)
    assert not progress.overdue()
    now[0] += 11
    assert progress.overdue()
    progress.line(16, "loss 1.000")
    assert capsys.readouterr().out == (
        "step 16 of 105: loss 1.000; 1000 ms per step, 1 min 29 s to go\n"
    )
    now[0] += 59
    assert not progress.overdue()
    now[0] += 2
    assert progress.overdue()


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("train", 0, 3, main=False)
    assert list(progress) == [0, 1, 2]
    progress.line(1, "loss 1.000")
    assert capsys.readouterr().out == "" and not progress.overdue()
