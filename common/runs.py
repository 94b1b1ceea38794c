"""A run: its folder and the accelerator that logs into it, its config, and the machine."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    LoggerType,
    parse_flag_from_env,
)

from common.checkpoints import list_checkpoints, step_of
from common.config import differences, read_values, save_config, to_plain
from common.files import hashed, is_sealed, locked, read_json, sha256, write_text
from common.processes import processes
from common.tracking import DONE, METRICS, JSONLTracker
from common.training import Precision

INPUTS = "inputs.json"
"""In a run's folder: the hashes of what it is trained on."""
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "torch-fidelity", "numpy")


MAY_CHANGE = {
    *("steps", "log_every", "save_every", "keep_checkpoints", "patience"),
    *("accumulation", "checkpointing", "compile", "shard", "trackers"),
    *("workers", "run_dir", "allow_failed"),
}
"""Top-level keys that may differ when a run is resumed."""
PLACES = ("codes", "tokenizer", "init_from")
"""Top-level keys that are paths: a resumed run may write them otherwise if they are the same relative to run_dir."""


def start_run(
    config: Any, precision: Precision, trackers: tuple[str, ...], *, together: bool = True
) -> Accelerator:
    """An accelerator that logs into the run folder, where this writes config.yaml and environment.json.

    `together` is false where the other processes do not take part. A user's accelerate config decides only processes,
    machines and devices; the recipe alone decides what is computed.

    Raises ValueError when the folder holds a run of another config, for a batch that the processes can't share, for a
    tracker that is unknown or not installed, and for an accelerate config that shards.
    """
    run_dir: Path = config.run_dir
    refuse_sharding()
    processes()
    refuse_missing(trackers)
    AcceleratorState._reset_state()  # a process may run one verb after another, in other precisions
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
        log_with=[JSONLTracker(run_dir / METRICS), *trackers],
        project_dir=str(run_dir),
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
        ],
    )
    refuse_other_config(config)
    sharing = accelerator.num_processes if together else 1
    check_shares(config.batch_size, sharing, getattr(config, "accumulation", 1))
    if together:
        accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if not list_checkpoints(run_dir):
            for name in (DONE, METRICS):
                (run_dir / name).unlink(missing_ok=True)
        save_config(config, run_dir / "config.yaml")
        write_text(run_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
    if together:
        accelerator.wait_for_everyone()
    accelerator.init_trackers(run_dir.name)
    return accelerator


def check_shares(batch_size: int, num_processes: int, accumulation: int) -> None:
    """Raises ValueError for a batch that the processes, and the parts of each, can't share evenly."""
    if batch_size % num_processes:
        raise ValueError(
            f"batch_size={batch_size} can't be shared by {num_processes} processes: set batch_size to a multiple of "
            f"{num_processes}"
        )
    if batch_size // num_processes % accumulation:
        raise ValueError(
            f"accumulation={accumulation} equal parts can't be cut of the {batch_size // num_processes} items that "
            "each process has of a batch: set accumulation or batch_size"
        )


def is_finished(config: Any, result: Path) -> bool:
    """Whether the run of this config has done all its steps and left its result, which is as it was written.

    Raises ValueError when its folder holds a run of another config, of more steps, or of fewer without a checkpoint
    to go on from.
    """
    refuse_other_config(config)
    path, checkpoints = config.run_dir / DONE, list_checkpoints(config.run_dir)
    said = read_json(path) if path.exists() else {"steps": 0}
    last = max([said["steps"], *map(step_of, checkpoints)])
    if last > config.steps:
        raise ValueError(
            f"{config.run_dir} has done {last} steps, more than steps={config.steps}: set steps to {last} or "
            "more, or run_dir to another folder"
        )
    if said.get("ended_early") != ended_early(config) and said["steps"] != config.steps:
        if last and not checkpoints:
            raise ValueError(
                f"{config.run_dir} has done {last} steps and has no checkpoint to go on from to steps={config.steps}: "
                f"set steps to {last}, or run_dir to another folder"
            )
        return False
    return is_sealed(result)


def ended_early(config: Any) -> dict[str, int]:
    """The keys that decide when early stopping ends a run."""
    return {"steps": config.steps, "patience": getattr(config, "patience", 0)}


def finish_run(config: Any, accelerator: Accelerator, done: int, *, together: bool = True) -> None:
    """Writes done.json, which marks the run as finished after `done` steps, and flushes the trackers."""
    if accelerator.is_main_process:
        said: dict[str, Any] = {"steps": done, METRICS: sha256(config.run_dir / METRICS)}
        if done < config.steps:
            said["ended_early"] = ended_early(config)
        write_text(config.run_dir / DONE, json.dumps(hashed(said)) + "\n")
    finish_trackers(accelerator)
    if together:
        accelerator.wait_for_everyone()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A context in which this command alone writes a folder. Raises ValueError where another command is writing it."""
    with locked(folder) if processes().is_main_process else nullcontext():
        yield


def refuse_sharding() -> None:
    """Raises ValueError for an accelerate config whose launcher cuts the networks into shards."""
    for kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if parse_flag_from_env(f"ACCELERATE_USE_{kind}"):
            raise ValueError(
                f"accelerate's distributed_type is {kind}, which cuts up networks on its own: set it to MULTI_GPU, and "
                "prior.shard=true for a prior in parts"
            )


def refuse_missing(trackers: tuple[str, ...]) -> None:
    """Raises ValueError for a tracker that accelerate does not know, or whose package is not installed."""
    names = [each.value for each in LoggerType if each is not LoggerType.ALL]
    installed = [str(name) for name in get_available_trackers()]
    for name in trackers:
        if name not in names:
            raise ValueError(f"trackers={[name]} is not one of {', '.join(names)}: set trackers")
        if name not in installed:
            raise ValueError(
                f"trackers={[name]} needs a package that is not installed: pip install {name}, or set trackers"
            )


def refuse_other_config(config: Any) -> None:
    """Raises ValueError when a key that a resumed run may not change differs from run_dir/config.yaml.

    A run that has neither a checkpoint nor ended is not checked, nor are keys that did not exist when it began.
    """
    run_dir: Path = config.run_dir
    path = run_dir / "config.yaml"
    if not (path.exists() and is_begun(run_dir)):
        return
    now = to_plain(config)
    then = read_values(path)
    moved = [key for key in PLACES if key in now and is_same_place(key, then, now)]
    kept = {key: now[key] for key in now if key not in MAY_CHANGE and key not in moved}
    for key, was, is_now in differences(then, kept):
        raise ValueError(
            f"{run_dir} holds a run with {key}={was}, now it is {is_now}: "
            "set run_dir to another folder, or remove that one"
        )


def finish_trackers(accelerator: Accelerator) -> None:
    """Flushes the trackers; `end_training` would also end the process group, which the next verb needs."""
    for tracker in accelerator.trackers:
        tracker.finish()


def is_same_place(key: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a path is the same relative to run_dir in both configs: a run may be renamed and moved."""
    if then.get(key) is None or now[key] is None:
        return False
    paths = [os.path.relpath(config[key], config["run_dir"]) for config in (then, now)]
    return paths[0] == paths[1]


def is_begun(run_dir: Path) -> bool:
    """Whether a folder holds a run with a checkpoint, or one that has ended."""
    return bool(list_checkpoints(run_dir)) or (run_dir / DONE).exists()


def refuse_other_inputs(run_dir: Path, hashes: Mapping[str, str]) -> None:
    """Raises ValueError where a run was begun with other data than these, by the hashes that `keep_inputs` wrote."""
    path = run_dir / INPUTS
    if not (is_begun(run_dir) and path.exists()):
        return
    was = read_json(path)
    for name, value in hashes.items():
        if was.get(name) not in (None, value):
            raise ValueError(
                f"{run_dir} was trained on other {name} than are there now: set run_dir to another folder, or remove "
                "that one"
            )


def keep_inputs(run_dir: Path, hashes: Mapping[str, str]) -> None:
    """Writes the hashes of what a run is trained on to run_dir/inputs.json."""
    if processes().is_main_process:
        write_text(run_dir / INPUTS, json.dumps(hashed(hashes)) + "\n")


def environment() -> dict[str, Any]:
    """Python, library versions, processor and accelerator: what a result depends on besides its config."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": processes().num_processes,
        "gpus": gpus,
        "versions": {name: version(name) for name in PACKAGES},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
