"""The stage-1 training step against the paper's recipe as a plain eager loop, with the same networks.

Both take one batch that lies in memory, and do all that a step needs: losses, discriminator, clipping,
optimizers, averaged weights, counts of codes. Two settings: the paper's 128 x 128 networks with K = 65,536
and the discriminator, but without LPIPS, whose weights would have to be downloaded and whose time would be
alike in both; and configs/cifar10_cpu.yaml. On a CPU the plain loop runs in float32 and under autocast to
bfloat16, which is what fp16 training falls back to there; on CUDA under autocast to fp16.

Where a step goes on a CPU (torch.profiler, one thread, cifar10_cpu in bf16): two thirds are
convolutions, 96 GFLOP of a step's 98, at about three quarters of the rate of a bare bf16 matrix product of
1,024 x 1,024; about a tenth each are GroupNorm and the search, 4 % swish. Decoding JPEG adds 3 %. Of the
paper's networks an image is 430 GFLOP, and the convolutions take four fifths. What did not help, and is not
done: channels_last, where GroupNorm's backward pass takes twelve times as long and the whole step of cifar10_cpu
1.6 times in fp32, 1.8 times in bf16; torch.compile, after which the networks ran as fast as before; keeping
freed memory from the system, which saved 2 to 6 %.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from benchmarks.paper_recipe import PlainTraining
from benchmarks.side_by_side import DEVICE, Timing, alternate, report, weighed
from common.config import load_config
from pipelines.experiment import read_experiment
from stage1_tokenizer import ImageTokenizerConfig
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.images.training import ImageTraining, TrainImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig
from stage1_tokenizer.train import init_codebook, prepare, take_step

NAME = "tokenizer_step"
CIFAR = Path(__file__).parents[1] / "configs/cifar10_cpu.yaml"


def paper(batch_size: int) -> TrainImageTokenizerConfig:
    """The paper's networks, codebook of 65,536 and discriminator."""
    return TrainImageTokenizerConfig(
        run_dir=Path("unused"),
        model=ImageTokenizerConfig(quantizer=SimVQConfig(codebook_size=65_536)),
        loss=ImageLossConfig(perceptual_weight=0),
        precision="bf16",
        batch_size=batch_size,
    )


def cifar10_cpu(batch_size: int) -> TrainImageTokenizerConfig:
    """The recipe's own settings, but for the batch size."""
    return replace(read_experiment(CIFAR).config("tokenizer"), batch_size=batch_size)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is timed; the defaults are the published table's."""

    paper_batch: int = 4
    """Images in a batch; few, so that a step takes seconds."""
    cifar10_cpu_batch: int = 64
    paper_steps: int = 1
    """Steps in one turn."""
    cifar10_cpu_steps: int = 4
    rounds: int = 5


def compare(sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Of each setting: the batch, seconds of a step each way, and GiB that two steps add."""
    return {
        name: {
            "batch": config.batch_size,
            "seconds": seconds(config, steps, sizes.rounds),
            "gib": memory(config),
        }
        for name, config, steps in (
            ("paper", paper(sizes.paper_batch), sizes.paper_steps),
            ("cifar10_cpu", cifar10_cpu(sizes.cifar10_cpu_batch), sizes.cifar10_cpu_steps),
        )
    }


def seconds(config: TrainImageTokenizerConfig, steps: int, rounds: int) -> dict[str, Timing]:
    """Of one step, each way."""
    turns = alternate(ways(config, steps), rounds, DEVICE)
    return {way: per_step(timing, steps) for way, timing in turns.items()}


def memory(config: TrainImageTokenizerConfig) -> dict[str, float]:
    """GiB that two steps add."""
    return {
        "plain": weighed(plain_way, config, "fp32", 2),
        "ours": weighed(our_way, config, "fp32", 2),
        "ours, config": weighed(our_way, config, config.precision, 2),
    }


def per_step(timing: Timing, steps: int) -> Timing:
    """Seconds of one of the steps of a turn."""
    return Timing(
        median=timing.median / steps, least=timing.least / steps, most=timing.most / steps
    )


def ways(config: TrainImageTokenizerConfig, steps: int) -> dict[str, Callable[[], object]]:
    """Both loops, in float32 and in mixed precision."""
    mixed = "fp16" if torch.cuda.is_available() else "bf16"
    # float32 first: accelerators of one process share what precision the last of them was given
    return {
        "plain": plain_way(config, "fp32", steps),
        "ours": our_way(config, "fp32", steps),
        "plain, mixed": plain_way(config, mixed, steps),
        "ours, config": our_way(config, config.precision, steps),
    }


def our_way(
    config: TrainImageTokenizerConfig, precision: str, steps: int
) -> Callable[[], list[dict[str, Tensor]]]:
    """The training loop's own steps; their losses stay on the device."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    run = prepare(replace(config, data=ImageDataConfig()), accelerator)
    batch = batch_of(config, accelerator.device)
    init_codebook(run, batch)
    run.model.train()
    # from 1: the codebook has started
    return lambda: [take_step(run, repeat(batch), step)[0] for step in range(1, steps + 1)]


def plain_way(
    config: TrainImageTokenizerConfig, precision: str, steps: int
) -> Callable[[], list[dict[str, float]]]:
    """The plain loop's steps, from the weights that `our_way` starts from."""
    torch.manual_seed(config.seed)
    modality = ImageTraining(replace(config, data=ImageDataConfig()), DEVICE)
    modality.tokenizer.to(DEVICE)
    batch = batch_of(config, DEVICE)
    with torch.no_grad():
        modality.tokenizer.quantizer.init_from(modality.latents(batch))
    discriminator = None if modality.discriminator is None else modality.discriminator.to(DEVICE)
    plain = PlainTraining(config, modality.tokenizer, discriminator, precision, DEVICE)
    return lambda: [plain.step(batch["images"], step) for step in range(1, steps + 1)]


def batch_of(config: TrainImageTokenizerConfig, device: torch.device) -> dict[str, Any]:
    """The one batch that all ways take, sampled from a seed."""
    side, channels = config.model.image_size, config.model.in_channels
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(config.batch_size, channels, side, side, generator=generator) * 2 - 1
    return {"images": images.to(device), "epoch": 0, "bad": {}, "unfit": 0}


HEADER = (
    *("setting", "plain, fp32", "ours, fp32", "ratio", "plain, mixed", "ours, config", "ratio"),
    *("plain fp32 / ours", "plain fp32, GiB", "ours fp32, GiB", "ours, GiB"),
)


def row(name: str, fact: dict[str, Any]) -> list[str]:
    """A setting's seconds of a step, ratios and memory."""
    seconds, gib = {way: t.median for way, t in fact["seconds"].items()}, fact["gib"]
    plain, ours = seconds["plain"], seconds["ours"]
    mixed, configured = seconds["plain, mixed"], seconds["ours, config"]
    return [
        f"{name}, batch {fact['batch']}",
        f"{plain:.3g} s",
        f"{ours:.3g} s",
        f"{plain / ours:.2f}x",
        f"{mixed:.3g} s",
        f"{configured:.3g} s",
        f"{mixed / configured:.2f}x",
        f"{plain / configured:.2f}x",
        *(f"{gib[way]:.2f}" for way in ("plain", "ours", "ours, config")),
    ]


if __name__ == "__main__":
    facts = compare(load_config(Sizes, None, sys.argv[1:]))
    report(NAME, HEADER, [row(name, fact) for name, fact in facts.items()], facts)
