"""What both training loops share: schedule, averaged weights, the guard against non-finite steps."""

import contextlib
import json
import math
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from omegaconf import OmegaConf
from torch import Tensor, nn

from common.checkpoints import list_checkpoints
from common.config import save_config, to_plain, write_text
from common.processes import processes
from common.tracking import JSONLTracker

Precision = Literal["fp32", "bf16", "fp16"]
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "torch-fidelity", "numpy")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, a linear warm-up, then a cosine."""

    lr: float = 1e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    """On matrices and convolution kernels only; biases, gains and tables are never decayed."""
    warmup_steps: int = 100
    final_lr_ratio: float = 0.1
    """The cosine ends at this share of the peak."""
    grad_clip: float = 1.0
    """Largest norm of the gradient of one step."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the training loops of both stages read."""

    run_dir: Path
    """Where everything goes; running again with the same folder resumes."""
    steps: int = 100_000
    seed: int = 0
    precision: Precision = "fp32"
    """Of the networks; the quantizer is always in float32."""
    max_skipped_steps: int = 50
    """Steps with a loss or gradient that is not finite are skipped; past this many the run stops."""
    workers: int = 2
    """Processes that load items; a stream is decoded by the main process."""
    log_every: int = 100
    save_every: int = 1000
    keep_checkpoints: int = 2
    trackers: tuple[str, ...] = ()
    """Trackers of accelerate beside metrics.jsonl: tensorboard, wandb, trackio."""


def learning_rate(step: int, total_steps: int, optim: OptimConfig) -> float:
    """Linear warm-up, then a cosine down to `final_lr_ratio * lr`."""
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(total_steps - optim.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return optim.lr * (optim.final_lr_ratio + (1 - optim.final_lr_ratio) * cosine)


def decay_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float
) -> list[dict[str, Any]]:
    """Two parameter groups, the second without weight decay: vectors and embedding tables."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in named:
        table = parameter.ndim < 2 or "embed" in name
        (plain if table else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


class Average:
    """An exponential moving average of a module's trainable parameters.

    The decay grows with the step count, min(decay, (1 + step) / (10 + step)), so that early averages
    forget the random start. With decay 0 the parameters are their own average, and nothing is kept.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.live = [p for p in module.parameters() if p.requires_grad] if decay else []
        self.mean = [p.detach().clone() for p in self.live]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        if not self.live:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - decay)

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the module's parameters are the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for live, mean in zip(self.live, self.mean, strict=True):
            kept = live.detach().clone()
            live.copy_(mean)
            mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # With decay 0 there is nothing to fill; checkpoints of earlier versions hold copies nevertheless.
        for mine, saved in zip(self.mean, state_dict["mean"], strict=bool(self.live)):
            mine.copy_(saved)


class TrainingDivergedError(ValueError):
    """Too many steps had a loss or a gradient that was not finite."""


class NonFiniteGuard:
    """Skips the steps whose losses or gradient norm are not finite, and counts them, on the device.

    `watch` decides without waiting for the device: what it returns is `found_inf` of fused optimizers, which
    then leave parameters and moments as they are. `check`, called when metrics are read anyway, raises.
    """

    def __init__(self, device: torch.device, limit: int) -> None:
        self.limit = limit
        self.skipped = torch.zeros((), device=device)
        self.first_step = torch.full((), -1.0, device=device)
        self.first_losses: dict[str, Tensor] = {}

    def watch(
        self, step: int, losses: dict[str, Tensor], norms: list[Tensor], scaled: bool
    ) -> Tensor:
        """1.0 where the step must be skipped, else 0.0.

        `scaled` says that a gradient scaler (fp16) is at work, which deals with gradients by itself.
        """
        values = {name: loss.detach().float().reshape(()) for name, loss in losses.items()}
        watched = torch.stack([*values.values(), *([] if scaled else norms)])
        bad = ~torch.isfinite(watched).all()
        first = bad & (self.first_step < 0)
        self.first_step = torch.where(first, step, self.first_step)
        for name, value in values.items():
            self.first_losses[name] = torch.where(first, value, self.first_losses.get(name, value))
        self.skipped += bad
        return bad.float()

    def check(self) -> int:
        """The number of steps skipped so far; raises TrainingDivergedError when it is over the limit."""
        skipped = int(self.skipped)
        if skipped > self.limit:
            values = {name: float(value) for name, value in self.first_losses.items()}
            broken = [f"{k}={v}" for k, v in values.items() if not math.isfinite(v)]
            raise TrainingDivergedError(
                f"{skipped} steps were not finite, more than max_skipped_steps={self.limit}; the first was "
                f"step {int(self.first_step) + 1}, where {', '.join(broken) or 'the gradient'} broke: "
                "lower optim.lr, or set precision=fp32"
            )
        return skipped

    def state_dict(self) -> dict[str, Any]:
        kept = ("skipped", "first_step", "first_losses")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped.copy_(state_dict["skipped"])
        self.first_step.copy_(state_dict["first_step"])
        device = self.skipped.device
        self.first_losses = {k: v.to(device) for k, v in state_dict["first_losses"].items()}


class Throughput:
    """Items per second since it was last asked."""

    def __init__(self) -> None:
        self.time, self.items = time.perf_counter(), 0

    def count(self, items: int) -> None:
        self.items += items

    def rate(self) -> float:
        now = time.perf_counter()
        rate = self.items / (now - self.time)
        self.time, self.items = now, 0
        return rate


def finish_trackers(accelerator: Accelerator) -> None:
    """Lets the trackers write what they hold.

    `end_training` would also end the process group, which the next verb of the same processes needs.
    """
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.wait_for_everyone()


MAY_CHANGE = {
    "steps",
    "log_every",
    "save_every",
    "keep_checkpoints",
    "trackers",
    "workers",
    "run_dir",
}
"""Top-level keys that may differ when a run is resumed."""


def start_run(
    config: Any, run_dir: Path, precision: Precision, trackers: tuple[str, ...]
) -> Accelerator:
    """The run folder with config.yaml and environment.json, and an accelerator that logs into it.

    Raises ValueError when the folder holds a run of another config.
    """
    processes()
    AcceleratorState._reset_state()  # a process may run one verb after another, in other precisions
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=[JSONLTracker(run_dir / "metrics.jsonl"), *trackers],
        project_dir=str(run_dir),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    refuse_other_config(config, run_dir)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if not list_checkpoints(run_dir):
            (run_dir / "metrics.jsonl").unlink(missing_ok=True)
        save_config(config, run_dir / "config.yaml")
        write_text(run_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
    accelerator.wait_for_everyone()
    accelerator.init_trackers(run_dir.name)
    return accelerator


def is_finished(config: Any, result: Path) -> bool:
    """Whether the run of this config has done all its steps and left its result.

    Raises ValueError when its folder holds a run of another config.
    """
    refuse_other_config(config, config.run_dir)
    done = [path.name for path in list_checkpoints(config.run_dir)]
    return result.exists() and f"step-{config.steps:08d}" in done


def refuse_other_config(config: Any, run_dir: Path) -> None:
    """Raises ValueError when a key that a resumed run may not change differs from run_dir/config.yaml.

    A run without a checkpoint has nothing to lose: its config may change.
    """
    path = run_dir / "config.yaml"
    if not (path.exists() and list_checkpoints(run_dir)):
        return
    now = to_plain(config)
    then = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(then, dict)
    changed = [k for k in now if k not in MAY_CHANGE and k in then and now[k] != then[k]]
    if changed:
        raise ValueError(
            f"{run_dir} holds a run with {changed[0]}={then[changed[0]]}, now it is {now[changed[0]]}: "
            "set run_dir to another folder, or remove that one"
        )


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
