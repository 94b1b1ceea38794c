"""Checkpoints that are complete or absent, in safetensors and JSON.

run_dir/checkpoints/
    step-00000500/
        state.safetensors     every tensor of every part
        state.json            the rest of their state, and where each tensor belongs
        metrics.jsonl         the run's metrics until then
    step-00001000/
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors.torch import load_file
from torch import Tensor

from common.files import is_sealed, read_json, replaced_file, replaced_folder
from common.processes import processes
from common.sharding import whole
from common.tensors import write_tensors
from common.tracking import DONE, METRICS, read_metrics


@runtime_checkable
class Stateful(Protocol):
    """What modules, optimizers, gradient scalers and our own counters have in common."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    folders = (run_dir / "checkpoints").glob("step-*")
    finished = [path for path in folders if re.fullmatch(r"step-\d{8,}", path.name)]
    return sorted(finished, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The steps that were done when it was written."""
    return int(checkpoint.name.removeprefix("step-"))


def is_logged(run_dir: Path, key: str) -> bool:
    """Whether a line of metrics up to the newest checkpoint has the key."""
    last = max(map(step_of, list_checkpoints(run_dir)), default=0)
    return any(key in line for line in read_metrics(run_dir) if line["step"] <= last)


def save_checkpoint(run_dir: Path, step: int, parts: dict[str, Stateful], keep: int) -> Path:
    """Writes a checkpoint and removes all but the newest `keep`; returns its folder.

    Only the main process writes. Where weights are sharded (FSDP), all processes must call it to gather them.
    """
    final = run_dir / "checkpoints" / f"step-{step:08d}"
    tensors: dict[str, Tensor] | None = {} if processes().is_main_process else None
    tree = {name: _strip(part.state_dict(), name, tensors) for name, part in parts.items()}
    if tensors is None:
        return final
    with replaced_folder(final) as partial:
        write_tensors(tensors, partial / "state.safetensors")
        (partial / "state.json").write_text(json.dumps({"step": step, "parts": tree}))
        if (run_dir / METRICS).is_file():
            shutil.copyfile(run_dir / METRICS, partial / METRICS)
    for old in list_checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old)
    return final


def resume(run_dir: Path, parts: dict[str, Stateful]) -> int:
    """Loads the newest undamaged checkpoint, if any, on every process; returns the number of steps done.

    The run, which goes on, no longer counts as ended. Lines of metrics.jsonl that were lost since are restored. Raises
    ValueError where all checkpoints are damaged, and where the one to load is of another version or model.
    """
    checkpoints = list_checkpoints(run_dir)
    if not checkpoints:
        return 0
    intact = next(filter(is_sealed, reversed(checkpoints)), None)
    if intact is None:
        raise ValueError(
            f"all checkpoints in {run_dir / 'checkpoints'} are damaged: remove {run_dir}, or set run_dir"
        )
    saved = read_json(intact / "state.json")
    tensors = load_file(intact / "state.safetensors")
    try:
        for name, part in parts.items():
            if name in saved["parts"]:  # a part that an earlier version did not save starts anew
                part.load_state_dict(_fill(saved["parts"][name], tensors))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{intact} is of another version, or of another model ({' '.join(str(error).split()[:40])}): remove "
            f"{run_dir}, or set run_dir"
        ) from None
    if processes().is_main_process:
        (run_dir / DONE).unlink(missing_ok=True)
        restore_metrics(run_dir, intact / METRICS)
    return saved["step"]


def restore_metrics(run_dir: Path, kept: Path) -> None:
    """Restores a run's metrics.jsonl from a checkpoint's copy, unless the file still begins with that copy."""
    path = run_dir / METRICS
    lines = kept.read_bytes() if kept.is_file() else b""
    if path.is_file() and path.read_bytes().startswith(lines):
        return
    with replaced_file(path) as partial:
        partial.write_bytes(lines)


def _strip(value: Any, name: str, tensors: dict[str, Tensor] | None) -> Any:
    """A state dict as values that JSON can hold: names replace its tensors, copied to `tensors` if given.

    Dicts become pairs, in which keys keep their type.
    """
    if isinstance(value, Tensor):
        value = whole(value.detach())
        if tensors is not None:
            tensors[name] = value.cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"pairs": [[k, _strip(v, f"{name}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_strip(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _fill(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict) and "tensor" in value:
        return tensors[value["tensor"]]
    if isinstance(value, dict):
        return {key: _fill(item, tensors) for key, item in value["pairs"]}
    return [_fill(item, tensors) for item in value] if isinstance(value, list) else value
