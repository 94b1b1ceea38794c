"""Files and folders that are whole or absent: written under another name, then renamed; and their hashes."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(final: Path) -> Iterator[Path]:
    """A context in which to write a file that takes its final name only when the context succeeds."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    yield partial
    os.replace(partial, final)


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """A context in which to fill a folder that takes its final name only when the context succeeds."""
    partial = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)


def write_text(path: Path, text: str) -> None:
    """Writes the text, whole or not at all."""
    with replaced_file(path) as partial:
        partial.write_text(text)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
