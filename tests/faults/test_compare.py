"""A study that is killed, whose disk fails, or that is begun twice: its table is the same in the end."""

import shutil
from pathlib import Path

import pytest
from helpers.forked import KILLED, Ended, Fault, Forked
from helpers.verdicts import CHANGED, EVERY, FINE, TOLD, Tally, some, verdict
from omegaconf import OmegaConf

from common.config import read_values

ROOT = Path(__file__).parents[2]
parts = pytest.mark.parametrize("every", EVERY[-1:])
"""Not in the fast part: a case starts six processes, each of which imports all that it needs."""
pytestmark = pytest.mark.slow


def command(folder: Path) -> None:
    """The study of a file beside the folder, as it is typed."""
    from pipelines import cli

    cli.main(["compare", str(folder.with_name("study.yaml"))])


def begun(folder: Path, fault: Fault | None = None, log: str = "log") -> Forked:
    return Forked(command, folder, folder=folder, fault=fault, log=log)


def made(folder: Path, fault: Fault | None = None) -> Ended:
    return begun(folder, fault).wait()


def table(folder: Path) -> dict[str, bytes]:
    """What a study leaves beside its rows."""
    names = ("compare.csv", "compare.md", "compare.png", "compare.html")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two rows that nothing happened to."""
    root = tmp_path_factory.mktemp("study")
    values = read_values(ROOT / "configs/compare/smoke.yaml")
    values["out"] = str(root / "study")
    values["rows"] = [values["rows"][0], values["rows"][-1]]
    (root / "study.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    ended = made(root / "study")
    assert ended.status == 0, ended.log
    (root / "study").rename(root / "whole")
    return root / "whole"


def rows_done(whole: Path) -> Path:
    """The study's folder when its rows are done, and what is beside them is still to be written."""
    folder = whole.with_name("study")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    for path in (*folder.glob("compare.*"), *folder.rglob("experiment.yaml")):
        path.unlink()
    return folder


def changes(whole: Path) -> int:
    """How many changes of files the study itself begins."""
    ended = made(rows_done(whole))
    assert ended.status == 0 and table(whole.with_name("study")) == table(whole), ended.log
    return ended.changes


@parts
def test_a_study_after_a_kill_or_a_full_disk_ends_with_the_same_table(
    whole: Path, every: int, tally: Tally
) -> None:
    points = changes(whole)
    faults = [Fault("kill", point) for point in range(points)]
    faults += [Fault("full", point) for point in range(0, points, 2)]
    for fault in some(faults, every, "images", "compare"):
        folder = rows_done(whole)
        struck = made(folder, fault)
        again = made(folder)

        def same(folder: Path = folder, again: Ended = again) -> bool:
            return again.status == 0 and table(folder) == table(whole)

        how = verdict(again if struck.status == KILLED else struck, same, same)
        kind = "kill" if fault.how == "kill" else f"disk: {fault.how}"
        tally.take(kind, f"compare {fault.at} of {points}", how, struck.log + again.log)
    tally.check()


@parts
def test_of_two_studies_in_one_folder_the_second_is_refused(
    whole: Path, every: int, tally: Tally
) -> None:
    for point in some(range(1, changes(whole), 6), every, "images", "compare"):
        folder = rows_done(whole)
        first = begun(folder, Fault("stop", point), log="first")
        first.wait(changes=point + 1)
        second = made(folder)
        first.go_on()
        ended = first.wait()
        refused = "is being written by" in second.log
        how = verdict(second, lambda: True, lambda refused=refused: refused)  # type: ignore[misc]
        if how in (FINE, TOLD) and (ended.status or table(folder) != table(whole)):
            how = CHANGED
        tally.take("two at once", f"compare {point}", how, second.log + ended.log)
    tally.check()
