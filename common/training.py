"""What both training loops share: schedule, averaged weights, the guard of the steps."""

import math
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from common.bounds import Count, NonNegative, Positive, Seed, Share, Whole
from common.sharding import part_like

Precision = Literal["fp32", "bf16", "fp16"]
GAIN = "parametrizations.weight.original0"
"""How the names of weight_norm's gains end in torch; a gain has as many dimensions as the weight that it scales."""
COMPILER = "inductor"
"""The backend of torch.compile."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, a linear warm-up, then a cosine."""

    lr: NonNegative = 1e-4
    """Peak learning rate."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """Decay of the averages of the gradient and of its square."""
    weight_decay: NonNegative = 0.0
    """On matrices and convolution kernels only; biases, gains and embeddings are never decayed."""
    warmup_steps: Whole = 100
    """Steps in which the learning rate rises from zero to its peak."""
    final_lr_ratio: Share = 0.1
    """The cosine ends at this share of the peak."""
    grad_clip: Positive = 1.0
    """Largest norm of the gradient of one step."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the training loops of both stages read."""

    run_dir: Path
    """Where everything goes; running again with the same folder resumes."""
    init_from: Path | None = None
    """A saved model to start from, of the same architecture: its folder, a pipeline's, or a name on the Hub."""
    steps: Count = 100_000
    """Optimizer steps in all; a resumed run counts those that it has done already."""
    seed: Seed = 0
    """Seed of the initial weights, the order of the items and their augmentation."""
    precision: Precision = "fp32"
    """Precision of the networks; the quantizer is always in float32."""
    accumulation: Count = 1
    """Gradient accumulation: a batch is cut into this many equal parts, for nearly the same step in less memory."""
    checkpointing: bool = False
    """Gradient checkpointing: recompute activations in the backward pass, level by level, instead of storing them."""
    compile: bool = False
    """Train through torch.compile, which takes a minute or more before the first step."""
    max_skipped_steps: Whole = 50
    """Steps with a loss or gradient that is not finite are skipped; past this many the run stops."""
    workers: Whole = 2
    """Processes that load items; a stream is decoded by the main process."""
    log_every: Count = 100
    """Steps between two lines of metrics.jsonl."""
    save_every: Count = 1000
    """Steps between two checkpoints."""
    keep_checkpoints: Count = 2
    """Number of newest checkpoints that are kept."""
    patience: Whole = 0
    """Training ends after this many held-out evaluations in a row without a new best; 0 turns early stopping off."""
    trackers: tuple[str, ...] = ()
    """Trackers of accelerate beside metrics.jsonl: tensorboard, wandb, trackio."""
    allow_failed: bool = False
    """Accept a training whose result is of no use (no better than a constant, say) instead of ending in an error."""


def learning_rate(step: int, total_steps: int, optim: OptimConfig) -> float:
    """Linear warm-up, then a cosine down to `final_lr_ratio * lr`."""
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(total_steps - optim.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return optim.lr * (optim.final_lr_ratio + (1 - optim.final_lr_ratio) * cosine)


def embeddings(module: nn.Module) -> set[str]:
    """The names of the parameters that are looked up, not multiplied by."""
    return {
        f"{name}.weight".lstrip(".")
        for name, each in module.named_modules()
        if isinstance(each, nn.Embedding)
    }


def decay_groups(
    module: nn.Module, weight_decay: float, leave_out: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Two groups of the module's trained parameters, the second without weight decay: vectors, gains and embeddings."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    looked_up = embeddings(module)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and name not in leave_out:
            exempt = parameter.ndim < 2 or name in looked_up or name.endswith(GAIN)
            (plain if exempt else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


class Average:
    """An exponential moving average of a module's trainable parameters, and of the buffers in `averaged_buffers`.

    The decay is min(decay, (1 + step) / (10 + step)): early averages forget the random start. 0 keeps no average.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.live = [p for p in module.parameters() if p.requires_grad]
        for part in module.modules():
            self.live += [getattr(part, name) for name in getattr(part, "averaged_buffers", ())]
        self.live = self.live if decay else []
        self.mean = [p.detach().clone() for p in self.live]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        if not self.live:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - decay)

    @contextmanager
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
            mine.copy_(part_like(mine, saved))


class TrainingDivergedError(ValueError):
    """Too many steps had a loss or a gradient that was not finite."""


class StepGuard:
    """Skips steps with a loss or gradient norm that is not finite; counts skipped and clipped steps on the device.

    `inspect` does not wait for the device: its result becomes `found_inf` of the fused optimizers, which then leave
    parameters and moments unchanged. `check`, called when metrics are read anyway, raises.
    """

    def __init__(self, device: torch.device, limit: int, grad_clip: float) -> None:
        self.limit, self.grad_clip = limit, grad_clip
        self.clipped = torch.zeros(2, device=device)
        self.skipped = torch.zeros((), device=device)
        self.first_step = torch.full((), -1.0, device=device)
        self.first_losses: dict[str, Tensor] = {}

    def inspect(
        self, step: int, losses: dict[str, Tensor], norms: list[Tensor], scaled: bool
    ) -> Tensor:
        """1.0 where the step must be skipped, else 0.0.

        With `scaled`, a gradient scaler (fp16) checks the gradients, so that only losses are checked here.
        """
        values = {name: loss.detach().float().reshape(()) for name, loss in losses.items()}
        checked = torch.stack([*values.values(), *([] if scaled else norms)])
        bad = ~torch.isfinite(checked).all()
        first = bad & (self.first_step < 0)
        self.first_step = torch.where(first, step, self.first_step)
        for name, value in values.items():
            self.first_losses[name] = torch.where(first, value, self.first_losses.get(name, value))
        self.skipped += bad
        self.clipped += torch.stack([norms[0] > self.grad_clip, norms[0] == norms[0]])
        return bad.float()

    def clipped_share(self) -> float:
        """The share of the steps since the last call whose first norm was clipped."""
        clipped, steps = self.clipped.tolist()
        self.clipped.zero_()
        return clipped / max(steps, 1)

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
        kept = ("skipped", "first_step", "first_losses", "clipped")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped.copy_(state_dict["skipped"])
        self.first_step.copy_(state_dict["first_step"])
        device = self.skipped.device
        if "clipped" in state_dict:  # checkpoints of earlier versions did not count them
            self.clipped.copy_(state_dict["clipped"])
        self.first_losses = {k: v.to(device) for k, v in state_dict["first_losses"].items()}


class Throughput:
    """Items per second since the last call of `rate`."""

    def __init__(self) -> None:
        self.time, self.items = time.perf_counter(), 0

    def count(self, items: int) -> None:
        self.items += items

    def rate(self) -> float:
        now = time.perf_counter()
        rate = self.items / (now - self.time)
        self.time, self.items = now, 0
        return rate


def unsynchronised(
    accelerator: Accelerator, network: nn.Module, last: bool
) -> AbstractContextManager[Any]:
    """A context for one part of an accumulated batch: gradients are averaged over processes for the `last` part alone."""
    return nullcontext() if last else accelerator.no_sync(network)


def compiled(network: nn.Module) -> nn.Module:
    """The network through torch.compile, with the same weights; methods named in `not_compiled` are left out."""
    for module in network.modules():
        for name in getattr(module, "not_compiled", ()):
            setattr(module, name, torch.compiler.disable(getattr(module, name)))
    return cast(nn.Module, torch.compile(network, backend=COMPILER))
