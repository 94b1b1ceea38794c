"""Files and folders that are whole or absent: written under another name, then renamed; their hashes and locks."""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HASHES = "sha256.json"
"""In a sealed folder: the SHA-256 of each file, by its path in the folder."""
LOCK = ".lock"
"""In a folder that a process is writing: who it is."""


@contextmanager
def replaced_file(final: Path) -> Iterator[Path]:
    """A context in which to write a file that takes its final name, on disk, only when the context succeeds."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    yield partial
    flush(partial)
    os.replace(partial, final)
    flush(final.parent)


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A context in which to fill a folder that takes its final name, sealed, only when the context succeeds.

    One that is there keeps another name until the new one stands; `recover` gives it back its own after a kill.
    """
    recover(final)
    partial, old = final.with_name(f".{final.name}.tmp"), final.with_name(f".{final.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    seal(partial)
    if final.exists():
        os.replace(final, old)
    os.replace(partial, final)
    flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(final: Path) -> None:
    """Undoes or ends a replacement of a folder that was killed between its two renamings."""
    old = final.with_name(f".{final.name}.old")
    if not old.exists():
        return
    if final.exists():
        shutil.rmtree(old)
    else:
        os.replace(old, final)


def flush(path: Path) -> None:
    """Has the system write what it holds of a file or of a folder's names, so that a loss of power takes nothing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes the text, whole or not at all."""
    with replaced_file(path) as partial:
        partial.write_text(text)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Writes the hashes of all files of a folder into it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != HASHES)
    for path in files:
        flush(path)
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_text(folder / HASHES, json.dumps(hashes, indent=1) + "\n")


def check_seal(folder: Path) -> None:
    """Raises ValueError for a file of a sealed folder that is missing or not as it was written.

    A folder without hashes, as earlier versions and other programs write it, is taken as it is.
    """
    path = folder / HASHES
    if not path.is_file():
        return
    for name in damaged_files(folder, read_json(path)):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing: make {folder} again")
        raise ValueError(
            f"{folder / name} is not as it was written: make {folder} again, or remove {path} if it was changed "
            "on purpose"
        )


def damaged_files(folder: Path, hashes: Mapping[str, str]) -> Iterator[str]:
    """The files of a folder that are missing or do not have their hash any more."""
    for name, digest in hashes.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            yield name


def is_sealed(folder: Path) -> bool:
    """Whether a folder is there and all its files are as they were written."""
    recover(folder)
    try:
        check_seal(folder)
    except ValueError:
        return False
    return folder.is_dir()


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file holds. Raises ValueError, naming the file, for what is not JSON or no object."""
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): make it again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object: make it again")
    return value


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which this process alone writes a folder; what dead ones left half-written is removed.

    Raises ValueError, naming the holder, where another process is writing it. A dead holder keeps nothing.
    """
    from filelock import FileLock, Timeout  # not where a quantizer alone is imported

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    holder = folder / f"{LOCK}.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text().strip() if holder.exists() else "another process"
        raise ValueError(
            f"{folder} is being written by {who}: wait until it is done, or set another folder"
        ) from None
    try:
        for left in folder.rglob(".*.tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder.write_text(f"process {os.getpid()} on {platform.node()} since {since}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
