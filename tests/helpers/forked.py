"""Commands in processes that a fault strikes at a chosen change of a file, forked from a server that has imported the verbs once."""

import errno
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

KILLED = 137
"""The exit status of a process that was killed, as a shell has it."""
CHANGES = {
    "os.rename": (0, 2),
    "os.remove": (0, 1),
    "os.mkdir": (0, 2),
    "os.rmdir": (0, 1),
    "os.truncate": (0, None),
    "os.link": (1, 3),
    "os.symlink": (1, 2),
}
"""Events of Python's audit hooks: where their arguments have the path, and the folder that it is relative to."""
TAKES_NO_SPACE = ("os.rename", "os.remove", "os.rmdir")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LONGEST = 300
"""Seconds after which a command is taken to hang; the slowest takes a few, a whole study on a busy machine two minutes."""
ROOT = Path(__file__).parents[2]
os.environ["PYTHONPATH"] = str(
    ROOT
)  # which the server reads, also where another checkout is installed
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["pipelines.verbs", "matplotlib.pyplot", "sklearn.neighbors", "librosa"]
)


@dataclass(frozen=True)
class Fault:
    """What happens to a command.

    `kill` ends it at once and `stop` suspends it. `full` and `read-only` are disk errors, at this and all later
    changes. `limit` is the largest size of a file, at which a write fails midway.
    """

    how: Literal["kill", "stop", "full", "read-only", "limit"]
    at: int
    """The change of a file, from 0, before which it happens; for `limit`, the size in bytes."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    changes: int
    """Changes of files in the folder that it began."""
    log: str
    """What it printed."""
    read: frozenset[str]
    """The files of the folder that it opened for reading."""
    hung: bool = False

    @property
    def sentences(self) -> list[str]:
        """The lines that tell of an error."""
        return re.findall(r"^simvq [a-z-]+: .*", self.log, flags=re.MULTILINE)


class Forked:
    """A module's function that runs in a fork; `folder` is watched, and the fork prints into the file `log` beside it."""

    def __init__(
        self,
        task: Callable[..., object],
        *arguments: object,
        folder: Path,
        fault: Fault | None = None,
        log: str = "log",
    ) -> None:
        self.log = folder.with_name(log)
        self.log.write_text("")
        self.marks, writing = SERVER.Pipe(duplex=False)
        self.child = SERVER.Process(
            target=run, args=(task, arguments, folder, writing, fault, self.log)
        )
        self.child.start()
        writing.close()

    def wait(self, changes: int = -1) -> Ended:
        """Waits for its end, or for the beginning of its change of this number."""
        begun, read, deadline = 0, set(), time.monotonic() + LONGEST
        while begun != changes:
            if not self.marks.poll(max(deadline - time.monotonic(), 0)):
                self.child.kill()
                return Ended(-1, begun, self.log.read_text(), frozenset(read), hung=True)
            try:
                mark = self.marks.recv()
            except EOFError:
                break
            begun += mark is None
            read |= {mark} - {None}
        else:
            return Ended(0, begun, "", frozenset(read))
        self.child.join()
        status = self.child.exitcode or 0
        return Ended(status, begun, self.log.read_text(), frozenset(read))

    def go_on(self) -> None:
        """Ends a stop."""
        assert self.child.pid is not None
        os.kill(self.child.pid, signal.SIGCONT)


def forked(
    task: Callable[..., object], *arguments: object, folder: Path, fault: Fault | None = None
) -> Ended:
    """Runs a module's function in a fork to its end."""
    return Forked(task, *arguments, folder=folder, fault=fault).wait()


def run(
    task: Callable[..., object],
    arguments: Any,
    folder: Path,
    marks: Any,
    fault: Fault | None,
    log: Path,
) -> None:
    """The fork's own part."""
    import torch

    import pipelines

    assert Path(pipelines.__file__).is_relative_to(ROOT)
    torch.set_num_threads(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if fault is not None and fault.how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.at, fault.at))
    inside, count, main = str(folder) + "/", 0, os.getpid()

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        path = changed(event, arguments)
        if os.getpid() != main:
            return
        if event == "open" and path is None and str(arguments[0]).startswith(inside):
            marks.send(str(arguments[0]).removeprefix(inside))
        if path is None or not path.startswith(inside.rstrip("/")):
            return
        marks.send(None)
        count += 1
        if fault is not None:
            strike(fault, count - 1, event, path)

    sys.addaudithook(look)
    task(*arguments)


def changed(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The path that an event changes; None where it changes nothing."""
    if event == "open":
        return str(arguments[0]) if (arguments[2] or 0) & WRITES else None
    if event not in CHANGES:
        return None
    place, relative_to = CHANGES[event]
    path = os.fsdecode(arguments[place]) if isinstance(arguments[place], str | bytes) else ""
    relative = arguments[relative_to] if relative_to is not None else -1
    return path if relative < 0 else os.path.join(os.readlink(f"/proc/self/fd/{relative}"), path)


def strike(fault: Fault, number: int, event: str, path: str) -> None:
    """The fault, at its change and, for a disk, at those after it."""
    if fault.how == "kill" and number == fault.at:
        os._exit(KILLED)
    elif fault.how == "stop" and number == fault.at:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.how == "read-only" and number >= fault.at:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    elif fault.how == "full" and number >= fault.at and event not in TAKES_NO_SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
