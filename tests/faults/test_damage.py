"""Every kind of file that a verb reads or leaves, damaged in every way: it is made again, or told and left alone."""

import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fault_runs import SECTIONS, before, copied, made, result
from helpers.verdicts import EVERY, Tally, contents, some, verdict
from safetensors.numpy import load_file, save_file

from common.files import HASHES, seal, sha256

NOT_READ = ("examples", "report.html", "log")


def kinds(names: list[str]) -> list[str]:
    """One file of each kind: the last of those whose names differ in numbers alone."""
    return sorted({re.sub(r"\d+", "#", name): name for name in sorted(names)}.values())


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


def flipped(path: Path) -> None:
    """One bit, at a place that depends on the file's name."""
    content = bytearray(path.read_bytes())
    place = zlib.crc32("/".join(path.parts[-3:]).encode())
    content[place % len(content)] ^= 1 << place % 7
    path.write_bytes(content)


def of_another_version(path: Path, at: int) -> None:
    """A file whose hash is right, with a key or a tensor more, less or of another shape than this version's."""
    if path.suffix == ".json":
        values = json.loads(path.read_text())
        names = [name for name in values if name != "sha256"]
        if at:
            values.pop(names[zlib.crc32(f"{path.name} {at}".encode()) % len(names)])
        values = {name: value for name, value in values.items() if name != "sha256"}
        path.write_text(json.dumps(values | ({} if at else {"of_another_version": 1})))
    elif path.suffix == ".safetensors":
        tensors = load_file(path)
        name = next(iter(tensors))
        tensor = tensors.pop(name)
        save_file(tensors | {name if at else "other": np.stack([tensor] * 2)}, path)
    elif path.suffix == ".npz":
        np.savez(path, other=np.zeros(3))
    elif path.suffix == ".jsonl":
        path.write_text('{"of_another_version": 1}\n' + path.read_text())
    seal_again(path)


def seal_again(path: Path) -> None:
    """The hashes of the folders that a file is in, as if it had been written so."""
    for folder in path.parents:
        if (folder / HASHES).is_file() and path.name != HASHES:
            about = folder / "pipeline.json"
            if about.is_file() and about != path:
                parts: Any = json.loads(about.read_text())
                for part in ("tokenizer", "prior"):
                    parts[f"{part}_sha256"] = sha256(folder / part / "model.safetensors")
                about.write_text(json.dumps(parts))
            seal(folder)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncated,
    "emptied": emptied,
    "removed": removed,
    "bit flipped": flipped,
    "another version (more)": lambda path: of_another_version(path, 0),
    "another version (less)": lambda path: of_another_version(path, 1),
}
VERSIONED = (".json", ".safetensors", ".npz", ".jsonl")


def damages(path: str) -> list[str]:
    """Those that a file can have."""
    versioned = Path(path).suffix in VERSIONED and Path(path).name != HASHES
    return [name for name in DAMAGES if versioned or not name.startswith("another")]


def start(whole: Path, folder: Path, verb: str, state: str) -> None:
    """A folder before the verb, after it, or in which it was stopped after its last checkpoint."""
    copied(whole, folder, *before(verb), *([] if state == "fresh" else [verb]))
    if state == "stopped":
        (folder / SECTIONS[verb] / "done.json").unlink(missing_ok=True)
        shutil.rmtree(folder / SECTIONS[verb] / "model", ignore_errors=True)


def results(folder: Path, verb: str, spare: str) -> dict[str, Any]:
    """What a verb left, but for a file that may stay as it is: of another version, or not needed any more."""
    return {
        name: left
        for name, left in result(folder, verb).items()
        if f"{SECTIONS[verb]}/{name}" != spare
    }


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("verb", SECTIONS)
@pytest.mark.parametrize("state", ["fresh", "stopped", "finished"])
@pytest.mark.parametrize("modality", ["images", "speech"])
def test_a_damaged_file_is_made_again_or_told(
    modality: str, state: str, verb: str, every: int, whole_of: Callable[[str], Path], tally: Tally
) -> None:
    whole = whole_of(modality)
    folder = whole.parent / "damaged"
    start(whole, folder, verb, state)
    there = contents(folder)
    if state == "fresh":
        ended = made(verb, folder, modality)
        names = kinds([name for name in ended.read if name in there])
    else:
        own = (SECTIONS[verb], *(["cache"] if verb == "score" else []))
        names = kinds([name for name in there if name.split("/")[0] in own])
        names = [name for name in names if not set(NOT_READ) & set(name.split("/"))]
    cases = [(name, damage) for name in names for damage in damages(name)]
    for name, damage in some(cases, every, modality, verb):
        start(whole, folder, verb, state)
        DAMAGES[damage](folder / name)
        was = contents(folder)
        ended = made(verb, folder, modality)
        spare = name if damage.startswith("another") or "checkpoints" in name else ""
        how = verdict(
            ended,
            lambda spare=spare: results(folder, verb, spare) == results(whole, verb, spare),  # type: ignore[misc]
            lambda was=was: contents(folder) == was,  # type: ignore[misc]
        )
        kind = re.sub(r" \(.*", "", damage)
        tally.take(f"file {kind}", f"{modality} {state} {verb} {name} {damage}", how, ended.log)
    if tally.cases:
        tally.check()
