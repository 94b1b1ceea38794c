"""What makes a prior of images better in the same time: each change alone, and some together.

`python -m benchmarks.prior_variants codes=runs/mnist/codes tokenizer=runs/mnist/tokenizer/model steps=250` trains a
prior for each variant and seed, and writes a line for each into `out`. A variant takes the steps that fit into the time
of `steps` of the plain prior, by a ratio that is measured in alternation before each training. Run again, the command
goes on and keeps what is in the file. Held-out bits are of validation items, by averaged weights; with `classifier` and
`data` there is the share of the way, too.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.prior_changes import PLAIN_NAME, VARIANTS
from benchmarks.prior_shares import Shares
from common.codes import read_codes, read_manifest
from common.config import load_config, to_plain
from common.seeding import seed_step
from common.training import Average, OptimConfig
from stage1_tokenizer.images.data import ImageDataConfig
from stage2_prior import Prior
from stage2_prior.build import build_prior
from stage2_prior.data import CodeDataset, held_out_batches, training_batches
from stage2_prior.optimizers import new_optimizers
from stage2_prior.train_config import TrainPriorConfig

MEASURED = 12
"""Steps of the plain prior and of a variant, in turn, that are timed."""
WARMUP = 50
"""Steps until the peak of the learning rate."""
MAY_CHANGE = ("out", "seeds", "variants")
"""Settings by which the lines of one file may differ."""
UNSAMPLED = ("label everywhere",)
"""Variants that can't sample: their change needs whole sequences, not one input at a time."""


@dataclass(frozen=True, kw_only=True)
class VariantsConfig:
    """What is trained."""

    codes: Path
    """The folder of `simvq encode`."""
    tokenizer: Path
    """The `model` folder of the tokenizer."""
    out: Path = Path("runs/prior-variants.jsonl")
    steps: int = 250
    """Of the plain prior; the others get the same time."""
    seeds: int = 3
    variants: tuple[str, ...] = ()
    """Names of those that are trained; all without."""
    dropout: float = 0.1
    held_out: int = 2000
    """Validation items that are evaluated, at most."""
    classifier: Path | None = None
    """The `model` folder of a classifier, by whose features the share of the way is computed; null leaves it out."""
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    """The images that the codes are of."""
    count: int = 1000
    """Samples that the share is computed of."""


class Trial:
    """One training: a variant's network, data and optimizers, and its steps."""

    def __init__(self, name: str, seed: int, settings: VariantsConfig) -> None:
        self.variant, manifest = VARIANTS[name], read_manifest(settings.codes)
        items = {split: read_codes(settings.codes, split) for split in ("train", "validation")}
        keys: dict[str, Any] = {"dropout": settings.dropout, "size": "1m", "seed": seed}
        config = TrainPriorConfig(
            run_dir=Path(),
            codes=settings.codes,
            tokenizer=settings.tokenizer,
            **keys | self.variant.keys,
        )
        self.seed = seed
        self.prior = build_prior(config, manifest, items)
        self.variant.change(self.prior, manifest["grid"])
        self.prior.train()
        self.optim = OptimConfig(
            lr=self.variant.lr,
            weight_decay=0.1,
            warmup_steps=WARMUP,
        )
        self.optimizers = new_optimizers(self.prior, self.variant.optimizer, self.optim)
        self.average = Average(self.prior, self.variant.ema_decay)
        data = CodeDataset(items["train"], self.prior, config.label_dropout, seed)
        size = self.variant.batch_size
        self.batches = training_batches(data, batch_size=size)
        self.held_out = CodeDataset(items["validation"], self.prior, 0.0, seed)

    def step(self, index: int, total: int) -> None:
        """One step of all optimizers."""
        seed_step(self.seed, index, 0)
        self.prior(*next(self.batches)).backward()
        nn.utils.clip_grad_norm_(self.prior.parameters(), 1.0)
        lr = self.variant.schedule(index, total, self.optim)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
        self.average.update(index)


def train(name: str, seed: int, settings: VariantsConfig, shares: Shares | None) -> dict[str, Any]:
    """Trains one variant; what it reached."""
    trial = Trial(name, seed, settings)
    ratio, done = 1.0, 0
    if not trial.variant.same_work:
        ratio, done = step_ratio(trial, Trial(PLAIN_NAME, seed, settings)), MEASURED + 1
    total = max(round(settings.steps / ratio), done)
    for index in range(done, total):
        trial.step(index, total)
    with trial.average.swapped_in():
        bits = held_out_bits(trial.prior, trial.held_out, settings.held_out)
        share = shares.share(trial.prior) if shares and name not in UNSAMPLED else None
    made = {"variant": name, "seed": seed, "steps": total, "step_ratio": ratio}
    return made | {"bits_per_item": bits, "share_of_the_way": share}


def step_ratio(trial: Trial, plain: Trial) -> float:
    """The CPU time of a variant's step over that of a plain one's: the least of steps taken in turn, but for the first.

    The first MEASURED + 1 steps of both are taken then.
    """
    times: dict[Trial, list[float]] = {trial: [], plain: []}
    for index in range(MEASURED + 1):
        for one, own in times.items():
            start = time.process_time()
            one.step(index, WARMUP)
            own.append(time.process_time() - start)
    return min(times[trial][1:]) / min(times[plain][1:])


@torch.no_grad()
def held_out_bits(prior: Prior, items: CodeDataset, most: int) -> float:
    """Bits of a held-out item, in the mean."""
    prior.eval()
    batches = held_out_batches(items, batch_size=250)
    nats = torch.cat([prior.nats(*batch) for batch in islice(batches, -(-most // 250))])
    return float(nats[:most].mean()) / math.log(2)


def main() -> None:
    settings = load_config(VariantsConfig, None, sys.argv[1:])
    lines = (
        [json.loads(line) for line in settings.out.read_text().splitlines()]
        if settings.out.exists()
        else []
    )
    own = {key: value for key, value in to_plain(settings).items() if key not in MAY_CHANGE}
    if any(line.get("settings") != own for line in lines):
        raise ValueError(f"{settings.out} has lines of other settings: set out to another file")
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shares = None
    if settings.classifier:
        shares = Shares(
            settings.codes,
            settings.tokenizer,
            settings.classifier,
            settings.data,
            settings.count,
            settings.out.parent / ".cache",
        )
    for seed in range(settings.seeds):
        for name in settings.variants or VARIANTS:
            if not any((line["variant"], line["seed"]) == (name, seed) for line in lines):
                lines.append(train(name, seed, settings, shares) | {"settings": own})
                with settings.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(lines[-1], flush=True)
    table(lines)


def table(lines: list[dict[str, Any]]) -> None:
    """A row for each variant, medians and ranges over its seeds; the last column pairs them with the plain prior's."""
    plain = {line["seed"]: line["bits_per_item"] for line in lines if line["variant"] == PLAIN_NAME}
    print(
        f"| prior | seeds | steps | bits per item | share of the way | bits against {PLAIN_NAME} |\n"
        "| --- | ---: | ---: | --- | --- | --- |"
    )
    for name in VARIANTS:
        own = [line for line in lines if line["variant"] == name and line["seed"] in plain]
        if own:
            bits = [line["bits_per_item"] for line in own]
            paired = [100 * (line["bits_per_item"] / plain[line["seed"]] - 1) for line in own]
            steps = round(median(line["steps"] for line in own))
            shares = [line["share_of_the_way"] for line in own if line["share_of_the_way"]]
            print(
                f"| {name} | {len(own)} | {steps:,} | {spread(bits, '.1f')} | {spread(shares, '.3f')} | "
                f"{spread(paired, '+.1f')} % |"
            )


def spread(values: Sequence[float], form: str) -> str:
    """The median and the range of several values."""
    if len(values) < 2:
        return "".join(f"{value:{form}}" for value in values)
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
