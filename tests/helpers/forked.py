"""Verbs in forked processes that die at a chosen file operation: everything is imported once."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = 137
"""The exit status of a process that was killed, as a shell has it."""
OPERATIONS = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "os.symlink",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def forked(
    task: Callable[[], object], log: Path, folder: Path, kill_at: int | None = None
) -> tuple[int, int]:
    """Runs the task in a fork; its exit status, and how many files of `folder` it was about to change.

    The fork dies before the `kill_at`th of them, as if by `kill -9`: nothing is cleaned up.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            marks = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(marks)
    status = 1
    try:
        os.close(reading)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        watch(folder, writing, kill_at)
        task()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def watch(folder: Path, pipe: int, kill_at: int | None) -> None:
    """Marks each change of a file of `folder` in the pipe, and ends the process at one of them."""
    inside, count = str(folder), 0

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        changes = event in OPERATIONS or (event == "open" and (arguments[2] or 0) & WRITES)
        if changes and str(arguments[0]).startswith(inside):
            if count == kill_at:
                os._exit(KILLED)
            count += 1
            os.write(pipe, b".")

    sys.addaudithook(look)
