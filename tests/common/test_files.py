"""Files and folders: whole or absent, hashed, and written by one process at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.files import (
    check_seal,
    is_sealed,
    locked,
    read_json,
    recover,
    replaced_folder,
    write_text,
)

ROOT = Path(__file__).parents[2]


def filled(folder: Path, text: str) -> None:
    with replaced_folder(folder) as partial:
        (partial / "a").write_text(text)
        (partial / "inner").mkdir()
        (partial / "inner" / "b").write_text(text)


def test_a_folder_knows_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    filled(folder, "one")
    check_seal(folder)
    assert is_sealed(folder) and not is_sealed(tmp_path / "absent")
    (folder / "inner" / "b").write_text("onE")
    with pytest.raises(ValueError, match=r"inner/b is not as it was written.*make .*model again"):
        check_seal(folder)
    (folder / "inner" / "b").unlink()
    with pytest.raises(ValueError, match="inner/b is missing"):
        check_seal(folder)
    assert not is_sealed(folder)
    (folder / "sha256.json").unlink()
    check_seal(folder)  # of an earlier version


def test_a_replacement_takes_nothing_that_it_did_not_write(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    filled(folder, "one")
    filled(folder, "two")
    for name in ("sha256.json.bak", "Thumbs.db.txt"):
        (folder / name).write_text("mine")
        with pytest.raises(ValueError, match=f"model holds {name}, which would be lost"):
            filled(folder, "three")
        (folder / name).unlink()
    (folder / "inner" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"model holds inner/notes.txt, which would be lost: give"):
        filled(folder, "three")
    assert (folder / "a").read_text() == "two" and (folder / "inner" / "notes.txt").exists()
    (folder / "inner" / "notes.txt").rename(
        folder / "inner" / "._notes.txt"
    )  # as macOS leaves them
    filled(folder, "three")
    (
        folder / "sha256.json"
    ).unlink()  # of an earlier version: a file of the same name takes its place
    filled(folder, "four")
    (folder / "sha256.json").write_text("{")  # damaged, and to be made again
    filled(folder, "five")
    assert (folder / "a").read_text() == "five"


def test_weights_are_replaced_by_weights_alone(tmp_path: Path) -> None:
    """A model's folder is not taken for what is exported from it."""
    with replaced_folder(tmp_path / "model") as partial:
        (partial / "model.safetensors").write_text("weights")
        (partial / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model holds model.safetensors, which would be lost"):
        filled(tmp_path / "model", "one")
    assert (tmp_path / "model" / "model.safetensors").read_text() == "weights"


def test_links_and_homes_are_followed_and_files_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for text in ("one", "two"):
        filled(Path("~/link"), text)
        assert (tmp_path / "real" / "a").read_text() == text and (tmp_path / "link").is_symlink()
    monkeypatch.chdir(tmp_path / "real")
    filled(Path("."), "three")
    assert (tmp_path / "real" / "a").read_text() == "three"
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ValueError, match="note is a file, and must be a folder"):
        filled(tmp_path / "note", "one")
    assert (tmp_path / "note").read_text() == "mine"


def test_a_replacement_killed_between_its_renamings_is_ended_or_undone(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    filled(folder, "one")
    os.replace(folder, tmp_path / ".model.old")  # killed here
    recover(folder)
    assert (folder / "a").read_text() == "one" and is_sealed(folder)
    filled(folder, "two")
    (tmp_path / ".model.old").mkdir()  # killed before the old one was removed
    recover(folder)
    assert (folder / "a").read_text() == "two" and not (tmp_path / ".model.old").exists()


def test_damaged_json_is_named(tmp_path: Path) -> None:
    for text in ("{", "[1]", ""):
        write_text(tmp_path / "x.json", text)
        with pytest.raises(ValueError, match=r"x\.json .*make it again"):
            read_json(tmp_path / "x.json")


HOLDER = """
import sys, time
from pathlib import Path
from common.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_has_one_writer_and_a_dead_one_keeps_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with (
        pytest.raises(ValueError, match=rf"written by process {holder.pid} on .* since"),
        locked(tmp_path),
    ):
        pass
    holder.kill()
    holder.wait()
    (tmp_path / ".codes.123.tmp").write_text("half")
    (tmp_path / ".model.tmp").mkdir()
    with locked(tmp_path):
        assert [path.name for path in tmp_path.glob(".*.tmp")] == []
    assert json.loads("[]") == [path.name for path in tmp_path.glob(".lock.json")]
