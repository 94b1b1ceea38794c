"""Several encode commands in one folder: what they leave is what one alone leaves, also when some are killed."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_runs import command, copied, made
from helpers.forked import Fault, Forked, forked
from helpers.image_runs import few_digits

import stage1_tokenizer.encode
from common.codes import damaged_shards
from common.files import only_one

KINDS = {"arrow": "codes.format=arrow", "stream": "data.streaming=true"}

SHARDS = {"train": 4, "validation": 1, "test": 1}


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose codes one command alone has written."""
    root = tmp_path_factory.mktemp("shards")
    few_digits(root / "data", train=32, validation=8, test=5)
    (root / "more").write_text(KINDS[request.param])
    folder = root / "whole"
    assert made("train-tokenizer", folder, "images").status == 0
    ended = forked(command, "encode", folder, "images", more(folder), folder=folder)
    assert ended.status == 0, ended.log
    return folder


def more(folder: Path) -> str:
    """The override of this kind of data."""
    return (folder.parent / "more").read_text()


def sharing(folder: Path, log: str, fault: Fault | None = None) -> Forked:
    """One of several commands, at work in a process of its own."""
    words = "encode", folder, "images", more(folder), "codes.shared=true"
    return Forked(command, *words, folder=folder, fault=fault, log=log)


def files(folder: Path) -> dict[str, bytes]:
    """What stands in the folder of codes, but for the two files that are locked."""
    codes = folder / "codes"
    paths = [path for path in sorted(codes.rglob("*")) if path.is_file()]
    names = [path.relative_to(codes).as_posix() for path in paths]
    pairs = zip(names, paths, strict=True)
    return {name: path.read_bytes() for name, path in pairs if not name.endswith(".lock")}


def check_end(workers: list[Forked], whole: Path, folder: Path) -> None:
    """Fails unless all of them end well, and leave what one alone leaves."""
    for worker in workers:
        ended = worker.wait()
        assert ended.status == 0 and not ended.hung, ended.log
        assert "codes: 64 rows" in ended.log
    assert files(folder) == files(whole)


def test_three_commands_at_once_leave_what_one_leaves(whole: Path) -> None:
    folder = whole.parent / "three"
    copied(whole, folder, "train-tokenizer")
    check_end([sharing(folder, f"log{i}") for i in range(3)], whole, folder)
    assert [path.name for path in (folder / "codes").glob(".*")] == [".lock", ".manifest.lock"]


def test_others_take_over_from_one_that_is_killed_at_any_moment(whole: Path) -> None:
    folder, waits = whole.parent / "killed", 0
    copied(whole, folder, "train-tokenizer")
    points = sharing(folder, "log").wait().changes
    for point in range(1, points, 9):
        copied(whole, folder, "train-tokenizer")
        first = sharing(folder, "first", Fault("stop", point))
        first.wait(changes=point + 1)
        others = [sharing(folder, "second"), sharing(folder, "third")]
        for held in held_shards(
            folder / "codes"
        ):  # the others write all else of its split, and wait
            deadline = time.monotonic() + 30
            while len(list(held.glob("shard-*"))) < SHARDS[held.name] - 1:
                time.sleep(0.1)
                if time.monotonic() > deadline:
                    break
            else:
                waits += 1
        assert first.child.pid is not None
        os.kill(first.child.pid, signal.SIGKILL)
        check_end(others, whole, folder)
    assert waits > 1


def held_shards(codes: Path) -> list[Path]:
    """The folders of the shards, of which there is at most one, that are held and not there yet."""
    folders = []
    for lock in codes.glob("*/.shard-*.lock.tmp"):
        with only_one(lock, wait=False) as free:
            if not free and not (lock.parent / f"{lock.name.split('.')[1]}.arrow").exists():
                folders.append(lock.parent)
    return folders


def test_all_killed_and_the_same_command_again_loses_nothing(whole: Path) -> None:
    folder = whole.parent / "again"
    copied(whole, folder, "train-tokenizer")
    for point in (12, 9):
        workers = [sharing(folder, f"log{i}", Fault("kill", point + i)) for i in range(2)]
        assert {worker.wait().status for worker in workers} == {137}
    assert (folder / "codes" / "manifest.json").exists()
    check_end([sharing(folder, "last")], whole, folder)


def test_damaged_shards_are_made_again_by_two_at_once(whole: Path) -> None:
    folder = whole.parent / "damaged"
    copied(whole, folder, "train-tokenizer", "encode")
    shards = sorted((folder / "codes" / "train").glob("shard-*"))
    shards[1].write_bytes(b"damaged")
    shards[2].unlink()
    check_end([sharing(folder, f"log{i}") for i in range(2)], whole, folder)


def test_a_shard_that_another_command_makes_meanwhile_stays(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = whole.parent / "meanwhile"
    copied(whole, folder, "train-tokenizer", "encode")
    shard = sorted((folder / "codes" / "train").glob("shard-*"))[1]
    other = shard.rename(folder / "other")

    def found_missing(out: Path, manifest: dict[str, Any]) -> list[str]:
        missing = damaged_shards(out, manifest)
        if other.exists():
            other.rename(shard)
        return missing

    monkeypatch.setattr(stage1_tokenizer.encode, "damaged_shards", found_missing)
    inode = other.stat().st_ino
    command("encode", folder, "images", more(folder), "codes.shared=true")
    assert shard.stat().st_ino == inode and files(folder) == files(whole)


def test_a_folder_is_shared_or_written_by_one_alone(whole: Path) -> None:
    for first_shares in (True, False):
        folder = whole.parent / "alone"
        copied(whole, folder, "train-tokenizer")
        words = ["encode", folder, "images", more(folder)]
        ways = [words, [*words, "codes.shared=true"]]
        stop = Fault("stop", 8)
        first = Forked(command, *ways[first_shares], folder=folder, fault=stop, log="first")
        first.wait(changes=9)
        second = Forked(command, *ways[not first_shares], folder=folder, log="second").wait()
        assert second.status == 2 and "codes is being written by" in second.log
        first.go_on()
        check_end([first], whole, folder)
