"""A step of stage-2 training: `train-prior`'s against transformers' LlamaForCausalLM with its own loss in a plain loop.

The plain loop is what transformers' documentation shows: labels in, `loss.backward()`, clipped gradients, torch's
AdamW (not fused), and the loss read at each step. Both sides have the same body, number of predictions and
precision. Ours is shown with both heads: `learned` has two tables of K vectors, as the plain loop has, `codebook`
has none.

With learned tables a step costs at least 6 FLOP per token and weight of body and output. The output's part is three
products of positions x K x width, which no way of computing the loss avoids. The rest can be saved. The plain loop
writes the positions x K logits, their logarithms and two gradients to memory in float32 (16 bytes per logit); ours
works in place on a chunk at a time. AdamW touches at least 28 bytes of each weight; ours does so in one pass, not in
one pass per operation. Where positions are few and K is large, the tables decide time and memory alike.
"""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product, repeat
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import Dataset
from torch import Tensor

from benchmarks.side_by_side import DEVICE, Timing, alternate, report, weighed
from benchmarks.stock import stock_model
from common.config import load_config
from common.early_stopping import Best
from common.training import Average, OptimConfig, StepGuard, decay_groups
from stage2_prior import Prior, PriorConfig
from stage2_prior.data import CodeDataset
from stage2_prior.decoding import Size
from stage2_prior.embeddings import CodebookVocabulary
from stage2_prior.prepare import Training
from stage2_prior.train import take_step
from stage2_prior.train_config import TrainPriorConfig

Precision = Literal["fp32", "bf16"]
Head = Literal["learned", "codebook"]
OPTIM = OptimConfig(lr=4e-4, weight_decay=0.05)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured."""

    sizes: tuple[Size, ...] = ("3m",)
    """Of the body; `sizes=[30m]` takes some times as long."""
    codebooks: tuple[int, ...] = (16_384, 262_144)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    length: int = 256
    """Codes of one row."""
    timed: tuple[int, ...] = (2048, 512)
    """Codes of a step that is timed, for each of `codebooks`."""
    weighed: int = 2048
    """Codes of a step whose memory is measured; 0 measures none."""
    code_dim: int = 32
    """Of the tokenizer, which the codebook head sees."""
    rounds: int = 5


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a line of the table is about."""

    size: Size
    codebook_size: int
    precision: Precision
    length: int
    code_dim: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table."""

    case: Case
    positions: int
    timings: dict[str, Timing]
    gibibytes: dict[str, float]


def new_prior(case: Case, head: Head) -> Prior:
    """An untrained, unconditional prior; a codebook head sees a random codebook."""
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=case.codebook_size,
        code_dim=case.code_dim,
        length=case.length,
        size=case.size,
        head=head,
    )
    prior = Prior(config).to(DEVICE)
    if isinstance(prior.vocabulary, CodebookVocabulary):
        prior.vocabulary.set_codebook(torch.randn(case.codebook_size, case.code_dim, device=DEVICE))
    return prior


def batch_of(case: Case, positions: int) -> Tensor:
    """Random codes: what they are changes no time. Raises ValueError for positions that are no whole rows."""
    if positions < case.length or positions % case.length:
        raise ValueError(
            f"length={case.length} must divide the {positions} positions of a step: set length"
        )
    generator = torch.Generator().manual_seed(1)
    shape = positions // case.length, case.length
    return torch.randint(case.codebook_size, shape, generator=generator).to(DEVICE)


def plain_step(case: Case, positions: int) -> Callable[[], float]:
    """The plain loop's step, which returns its loss; the code 0 stands for the condition before each row."""
    stock = stock_model(new_prior(case, "learned")).train()
    first, last = OPTIM.betas
    optimizer = torch.optim.AdamW(
        stock.parameters(), OPTIM.lr, (first, last), weight_decay=OPTIM.weight_decay
    )
    codes = batch_of(case, positions)
    inputs = torch.cat([torch.zeros_like(codes[:, :1]), codes], dim=1)

    def step() -> float:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=case.precision == "bf16"):
            loss = stock(input_ids=inputs, labels=inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(stock.parameters(), OPTIM.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def our_step(case: Case, positions: int, head: Head) -> Callable[[], float]:
    """The step of `train-prior`, which returns its loss."""
    codes = batch_of(case, positions)
    prior = new_prior(case, head)
    if head == "learned":
        stock_model(prior)  # conditions as the rival sees them
    run = training(case, prior, codes)
    conditions = prior.conditions(len(codes)).to(DEVICE)
    batches = repeat((conditions, codes))
    run.model.train()
    done = [0]

    def step() -> float:
        loss, _ = take_step(run, batches, done[0])
        done[0] += 1
        return float(loss)

    return step


def training(case: Case, prior: Prior, codes: Tensor) -> Training:
    """What `train-prior` sets up, for rows that are in memory."""
    where = Path("unused")
    config = TrainPriorConfig(
        run_dir=where, codes=where, tokenizer=where, precision=case.precision, optim=OPTIM
    )
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="no" if case.precision == "fp32" else "bf16")
    groups = decay_groups(prior, OPTIM.weight_decay)
    optimizer = torch.optim.AdamW(groups, OPTIM.lr, OPTIM.betas, fused=True)
    model, prepared = accelerator.prepare(prior, optimizer)
    rows = Dataset.from_dict({"label": [0] * len(codes), "codes": codes.tolist()})
    items = CodeDataset(rows, prior, 0.0, 0)
    return Training(
        config=config,
        accelerator=accelerator,
        prior=prior,
        model=model,
        optimizers=[prepared],
        average=Average(prior, 0.0),
        guard=StepGuard(accelerator.device, config.max_skipped_steps, config.optim.grad_clip),
        best=Best(),
        train=items,
        held_out=items,
        baselines={},
        codes_per_second=None,
    )


def two_steps(make: Callable[..., Callable[[], float]], *args: Any) -> Callable[[], object]:
    """Work to be weighed: the second step is the first one with all of the optimizer's state."""
    step = make(*args)
    return lambda: (step(), step())


MAKERS: dict[str, tuple[Callable[..., Callable[[], float]], tuple[Head, ...]]] = {
    "plain": (plain_step, ()),
    "learned": (our_step, ("learned",)),
    "codebook": (our_step, ("codebook",)),
}
"""What builds each way's step, and its arguments beside case and positions."""


def measured(case: Case, positions: int, sizes: Sizes) -> Line:
    """The times of a case, and the memory that each way adds to its weights."""
    ways = {name: make(case, positions, *more) for name, (make, more) in MAKERS.items()}
    timings = alternate(ways, sizes.rounds, DEVICE)
    ways.clear()
    gc.collect()  # models and what accelerate keeps of them know each other
    gibibytes = {
        name: weighed(two_steps, make, case, sizes.weighed, *more)
        for name, (make, more) in MAKERS.items()
        if sizes.weighed
    }
    return Line(case=case, positions=positions, timings=timings, gibibytes=gibibytes)


def compare(sizes: Sizes) -> list[Line]:
    """A line for each precision, size and number of codes."""
    if len(sizes.timed) != len(sizes.codebooks):
        raise ValueError(
            f"timed={sizes.timed} must have one number for each of codebooks={sizes.codebooks}: set timed"
        )
    pairs = zip(sizes.codebooks, sizes.timed, strict=True)
    lines = []
    for precision, size, (codebook_size, positions) in product(
        sizes.precisions, sizes.sizes, pairs
    ):
        case = Case(
            size=size,
            codebook_size=codebook_size,
            precision=precision,
            length=sizes.length,
            code_dim=sizes.code_dim,
        )
        lines.append(measured(case, positions, sizes))
    return lines


def cells(line: Line) -> list[str]:
    """Tokens per second of each way, how many times as fast ours are, and memory likewise."""
    case, seconds = line.case, {name: timing.median for name, timing in line.timings.items()}
    speeds = [f"{line.positions / each:,.0f}" for each in seconds.values()]
    faster = [f"{seconds['plain'] / seconds[head]:.2f}x" for head in ("learned", "codebook")]
    memory = [f"{each:.2f}" for each in line.gibibytes.values()] or ["-"] * len(MAKERS)
    name = [case.precision, case.size, f"{case.codebook_size:,}", str(line.positions)]
    return [*name, *speeds, *faster, *memory]


HEADER = (
    *("precision", "body", "K", "positions", "plain loop, positions/s"),
    *("ours, learned", "ours, codebook", "learned against plain", "codebook against plain"),
    *("plain loop, GiB", "ours, learned", "ours, codebook"),
)

if __name__ == "__main__":
    chosen = load_config(Sizes, None, sys.argv[1:])
    lines = compare(chosen)
    name = "_".join(["prior_step", *chosen.sizes])
    report(name, HEADER, [cells(line) for line in lines], {"sizes": chosen, "lines": lines})
