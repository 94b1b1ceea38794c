"""Files and folders that are whole or absent: written under another name, then renamed; their hashes and locks."""

import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

HASHES = "sha256.json"
"""In a sealed folder: the SHA-256 of each file, by its path in the folder."""
OWN_HASH = "sha256"
"""In a file of JSON: the SHA-256 of its other keys."""
LEFT_BY_SYSTEMS = re.compile(
    rf"{re.escape(HASHES)}|\.DS_Store|\._.*|\.nfs.*|Thumbs\.db|desktop\.ini", re.I
)
"""Files that may get lost when a folder is replaced: its hashes, and what file managers and systems leave."""
LOCK = ".lock"
"""The lock file of a folder: held by one process that writes alone, or shared by several."""
HOLDER = ".lock.json"
"""In a folder that one process writes alone: which one it is."""


@contextmanager
def replaced_file(final: Path) -> Iterator[Path]:
    """Yields a temporary path; only if the context succeeds, the file there is flushed and renamed to `final`."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    yield partial
    flush(partial)
    os.replace(partial, final)
    flush(final.parent)


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill; only if the context succeeds, it is sealed and renamed to `final`.

    An older folder of that name is renamed while the new one takes its place; after a kill, `recover` renames it back.
    Links and `~` are followed. Raises ValueError if `final` is a file, or if weights, or files that are not sealed,
    would be lost because the new folder lacks them.
    """
    final = Path(os.path.realpath(os.path.expanduser(final)))
    if final.is_file():
        raise ValueError(f"{final} is a file, and must be a folder: give another one")
    recover(final)
    partial, old = final.with_name(f".{final.name}.tmp"), final.with_name(f".{final.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    seal(partial)
    refuse_loss(final, partial)
    if final.exists():
        os.replace(final, old)
    os.replace(partial, final)
    flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def refuse_loss(folder: Path, new: Path) -> None:
    """Raises ValueError, naming the file, if an unsealed file or a file of weights in `folder` is missing in `new`."""
    sealed = sealed_files(folder)
    for name in sorted(files_in(folder)):
        ours = name in sealed and not name.endswith(".safetensors")
        if not ours and not (new / name).is_file():
            raise ValueError(
                f"{folder} holds {name}, which would be lost: give another folder, or remove what is in this one"
            )


def sealed_files(folder: Path) -> set[str]:
    """The files that the hashes of a folder list; all of its files if the list is damaged."""
    path = folder / HASHES
    try:
        return {*read_json(path)} if path.is_file() else set()
    except ValueError:  # damaged
        return files_in(folder)


def files_in(folder: Path) -> set[str]:
    """All files of a folder, by their paths in it, but for hashes and what file managers and systems leave."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not LEFT_BY_SYSTEMS.fullmatch(name.split("/")[-1])}


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
    """Makes the system write a file, or a folder's names, to disk (fsync): a power cut then loses nothing."""
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


def seal(folder: Path, files: Sequence[Path] | None = None) -> None:
    """Flushes all files of a folder, or only `files`, and writes their hashes into it."""
    if files is None:
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != HASHES)
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
    """Whether a folder exists, is not empty and passes `check_seal`; first calls `recover`."""
    recover(folder)
    try:
        check_seal(folder)
    except ValueError:
        return False
    return folder.is_dir() and any(folder.iterdir())


class Saved(dict[str, Any]):
    """An object read from a file of JSON; a key that it lacks raises ValueError, naming the file."""

    path: Path

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"{self.path} has no {key!r}: it is of another version, make it again")


def read_json(path: Path) -> Saved:
    """The object that a file holds, without the hash that `hashed` gave it.

    Raises ValueError, naming the file, for what is not JSON, is no object, or is not as it was written.
    """

    def saved(values: dict[str, Any]) -> Saved:
        value = Saved(values)
        value.path = path
        return value

    try:
        value = json.loads(path.read_text(), object_hook=saved)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): make it again") from None
    if not isinstance(value, Saved):
        raise ValueError(f"{path} holds no JSON object: make it again")
    if value.pop(OWN_HASH, digest := hashed(value)[OWN_HASH]) != digest:
        raise ValueError(
            f"{path} is not as it was written: make it again, or remove its key {OWN_HASH} if it was changed on purpose"
        )
    return value


def hashed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a file of JSON and, as the last of them, a hash over the others, which `read_json` checks."""
    plain = json.loads(json.dumps({k: v for k, v in values.items() if k != OWN_HASH}))
    text = json.dumps(plain, sort_keys=True)
    return {**plain, OWN_HASH: hashlib.sha256(text.encode()).hexdigest()}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which this process alone writes a folder; first removes what dead processes left half-written.

    Raises ValueError, naming the other process, where one is writing it. A process that dies releases the lock.
    """
    holder = folder / HOLDER
    with only_one(folder / LOCK, wait=False) as alone:
        if not alone:
            refuse_writing(folder)
        try:
            remove_left(folder)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder.write_text(f"process {os.getpid()} on {platform.node()} since {since}\n")
            yield
        finally:
            holder.unlink(missing_ok=True)


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """A context in which several processes, of any machines, may write a folder at once, while none has it `locked`.

    Raises ValueError, naming the process, where one has.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            refuse_writing(folder)
        yield


@contextmanager
def only_one(lock: Path, *, wait: bool) -> Iterator[bool]:
    """A context that yields whether this process holds the lock file, which one process at a time can.

    With `wait` it waits until it does. A process that dies releases the lock.
    """
    from filelock import FileLock, Timeout  # not where a quantizer alone is imported

    lock.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(lock)
    with suppress(Timeout):
        file_lock.acquire(timeout=-1 if wait else 0)
    try:
        yield file_lock.is_locked
    finally:
        file_lock.release()


def refuse_writing(folder: Path) -> NoReturn:
    """Raises ValueError for a folder that others write, naming the one that writes it alone."""
    holder = folder / HOLDER
    who = holder.read_text().strip() if holder.exists() else "another process"
    raise ValueError(
        f"{folder} is being written by {who}: wait until it is done, or set another folder"
    )


def remove_left(folder: Path) -> None:
    """Removes what dead processes left half-written in a folder."""
    for left in folder.rglob(".*.tmp"):
        # another process may remove its lock at this moment
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
