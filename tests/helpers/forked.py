"""Functions in processes that die at a chosen file operation, forked from a server that has imported the verbs once."""

import multiprocessing
import os
import sys
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
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pipelines.verbs"])


def forked(
    task: Callable[..., object], *arguments: object, folder: Path, kill_at: int | None = None
) -> tuple[int, int]:
    """Runs a module's function in a fork; its exit status, and how many changes of files in `folder` it began.

    The fork dies before the `kill_at`th of them, as if by `kill -9`: nothing is cleaned up. What it prints goes
    to the file `log` beside the folder.
    """
    reading, writing = SERVER.Pipe(duplex=False)
    child = SERVER.Process(target=run, args=(task, arguments, folder, writing, kill_at))
    child.start()
    writing.close()
    marks = 0
    try:
        while True:
            reading.recv_bytes()
            marks += 1
    except EOFError:
        child.join()
    return child.exitcode or 0, marks


def run(
    task: Callable[..., object], arguments: Any, folder: Path, marks: Any, kill_at: int | None
) -> None:
    """The fork's own part."""
    import torch

    torch.set_num_threads(1)
    descriptor = os.open(folder.with_name("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    inside, count = str(folder), 0

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        changes = event in OPERATIONS or (event == "open" and (arguments[2] or 0) & WRITES)
        if changes and str(arguments[0]).startswith(inside):
            if count == kill_at:
                os._exit(KILLED)
            count += 1
            marks.send_bytes(b".")

    sys.addaudithook(look)
    task(*arguments)
