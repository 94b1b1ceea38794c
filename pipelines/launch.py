"""One command on several processes of this machine: when one of them ends badly all do, and one sentence says why."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

LAUNCHED = "SIMVQ_LAUNCHED"
"""Set in the environment of the processes that `launch` starts, which leave their errors to it."""


def launch(processes: int, words: Sequence[str]) -> None:
    """Runs `simvq` with these words on so many processes, and ends as they do.

    The others are ended within seconds of the first that fails or is killed. Ctrl-C and a kill of this process end all.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    refuse_shared_gpus(processes)
    verb = words[0]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    threads = max((os.cpu_count() or 1) // processes, 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ[LAUNCHED] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "pipelines", *words)
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            if (
                failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM
            ):  # which ends the others
                name = signal.Signals(-failure.exitcode).name
                end(
                    1,
                    f"simvq {verb}: process {rank} was killed ({name}); run the same command again to resume",
                )
        _, first = error.get_first_failure()
        end(first.exitcode, str(first.message))
    except SignalException:
        end(1, f"simvq {verb}: stopped; run the same command again to resume")


def refuse_shared_gpus(processes: int) -> None:
    """Raises ValueError for more processes than there are GPUs, where there are any."""
    import torch
    from accelerate.utils import parse_flag_from_env

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        raise ValueError(
            f"--processes={processes}, but each takes a GPU of its own, and there is {gpus}: give fewer, or set "
            "ACCELERATE_USE_CPU=true"
        )


def end(code: int, text: str) -> NoReturn:
    """Ends this process with an error, which is told once, whatever the number of processes."""
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if LAUNCHED in os.environ and place is not None:
        Path(place).write_text(json.dumps({"message": text, "timestamp": int(time.time())}))
    elif os.environ.get("LOCAL_RANK", "0") == "0":
        print(text, file=sys.stderr)
    sys.exit(code)
