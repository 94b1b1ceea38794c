"""What makes a prior better in the same time: each change alone, against the recipe as it is.

`python -m benchmarks.prior_variants codes=runs/mnist/codes tokenizer=runs/mnist/tokenizer/model seconds=300` trains a
prior for each variant and seed, for as many steps as fit into `seconds` of CPU time by the measured time of its step,
and writes a line for each into `out`. The same command again goes on: what is in the file stays. Held-out bits are of
the validation part, by averaged weights.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.codes import read_codes, read_manifest
from common.config import load_config
from common.seeding import seed_step
from common.training import Average, OptimConfig, decay_groups, learning_rate
from stage2_prior import Prior
from stage2_prior.build import build_prior
from stage2_prior.data import CodeDataset, held_out_batches, training_batches
from stage2_prior.train_config import TrainPriorConfig

MEASURED = 8
"""Steps by which a variant's time is estimated."""


@dataclass(frozen=True, kw_only=True)
class VariantsConfig:
    """What is trained."""

    codes: Path
    """The folder of `simvq encode`."""
    tokenizer: Path
    """The `model` folder of the tokenizer."""
    out: Path = Path("runs/prior-variants.jsonl")
    seconds: float = 300.0
    """CPU time of each training."""
    seeds: int = 3
    variants: tuple[str, ...] = ()
    """Names of those that are trained; all without."""
    dropout: float = 0.1
    held_out: int = 2000
    """Validation items that are evaluated, at most."""


def nothing(prior: Prior, grid: list[int]) -> None:
    """The prior as it is."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change of the recipe."""

    change: Callable[[Prior, list[int]], None] = nothing
    """Of the network, before its training; it is told the grid of codes."""
    lr: float = 2e-3
    batch_size: int = 64
    muon_lr: float | None = None
    """The matrices of the body are trained by Muon, all else by AdamW."""
    schedule: Callable[[int, int, OptimConfig], float] = learning_rate
    final_lr_ratio: float = 0.1
    ema_decay: float = 0.995
    keys: dict[str, Any] = field(default_factory=dict)
    """Of TrainPriorConfig."""


class GridRotary(nn.Module):
    """Rotary embeddings in two dimensions: half of a head's pairs turn with the row, half with the column.

    The place before the first code, the condition's, is not turned.
    """

    def __init__(self, grid: list[int], head_dim: int, base: float = 100.0) -> None:
        super().__init__()
        rows, columns = (torch.arange(n, dtype=torch.float32) for n in grid)
        y, x = (part.flatten() for part in torch.meshgrid(rows, columns, indexing="ij"))
        pairs = head_dim // 4
        speeds = base ** (-torch.arange(pairs) / pairs)
        angles = torch.cat([y[:, None] * speeds, x[:, None] * speeds], 1)
        angles = torch.cat([torch.zeros(1, 2 * pairs), angles])
        self.register_buffer("angles", torch.cat([angles, angles], 1), persistent=False)

    def forward(self, x: Tensor, position_ids: Int[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        angles = self.angles[position_ids]  # type: ignore[index]
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class NormedLinear(nn.Linear):
    """A linear map whose output has unit root mean square in each head, times a gain: QK-norm."""

    def __init__(self, linear: nn.Linear, heads: int) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight, self.heads = linear.weight, heads
        self.gain = nn.Parameter(torch.ones(linear.out_features // heads))

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x).unflatten(-1, (self.heads, -1))
        return F.rms_norm(out, out.shape[-1:], self.gain, 1e-6).flatten(-2)


def grid_rotary(prior: Prior, grid: list[int]) -> None:
    config: Any = prior.body.config
    prior.body.rotary_emb = GridRotary(grid, config.hidden_size // config.num_attention_heads)  # type: ignore[assignment]


def qk_norm(prior: Prior, grid: list[int]) -> None:
    heads = prior.body.config.num_attention_heads
    for layer in prior.body.layers:  # type: ignore[union-attr]
        attention: Any = layer.self_attn  # type: ignore[union-attr]
        attention.q_proj = NormedLinear(attention.q_proj, heads)
        attention.k_proj = NormedLinear(attention.k_proj, heads)


def residual_maps(prior: Prior) -> Iterator[nn.Linear]:
    """The two maps of each layer whose outputs are added to the residual stream."""
    for layer in prior.body.layers:  # type: ignore[union-attr]
        yield layer.self_attn.o_proj  # type: ignore[union-attr, misc]
        yield layer.mlp.down_proj  # type: ignore[union-attr, misc]


@torch.no_grad()
def scaled_residual(prior: Prior, grid: list[int]) -> None:
    for linear in residual_maps(prior):
        linear.weight /= math.sqrt(2 * len(prior.body.layers))  # type: ignore[arg-type]


@torch.no_grad()
def zero_residual(prior: Prior, grid: list[int]) -> None:
    for linear in residual_maps(prior):
        linear.weight.zero_()


def label_everywhere(prior: Prior, grid: list[int]) -> None:
    """The condition's vector is added to every code's, beside its place before the first."""
    embed = nn.Embedding(*prior.condition_embedding.weight.shape)
    nn.init.normal_(embed.weight, std=0.02)
    prior.everywhere = embed

    def hidden(conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"]) -> Float[Tensor, "b m w"]:
        added = embed(conditions).sum(1, keepdim=True)
        inputs = torch.cat([prior.prefix(conditions), prior.first_inputs(codes) + added], 1)
        return prior.body(inputs_embeds=prior.dropout(inputs), use_cache=False).last_hidden_state

    prior.hidden = hidden  # type: ignore[method-assign]


def warm_stable_decay(step: int, total: int, optim: OptimConfig) -> float:
    """Linear warm-up, a constant rate, and a linear decay to zero over the last fifth."""
    left = (total - step) / (0.2 * total)
    return optim.lr * min((step + 1) / optim.warmup_steps, 1.0, left)


def several(*changes: Callable[[Prior, list[int]], None]) -> Callable[[Prior, list[int]], None]:
    """One change after the other."""

    def change(prior: Prior, grid: list[int]) -> None:
        for each in changes:
            each(prior, grid)

    return change


VARIANTS = {
    "today": Variant(),
    "lr 1e-3": Variant(lr=1e-3),
    "lr 4e-3": Variant(lr=4e-3),
    "2-D rotary": Variant(change=grid_rotary),
    "QK-norm": Variant(change=qk_norm),
    "scaled residual": Variant(change=scaled_residual),
    "zero residual": Variant(change=zero_residual),
    "label everywhere": Variant(change=label_everywhere),
    "Muon 0.01": Variant(muon_lr=0.01),
    "Muon 0.03": Variant(muon_lr=0.03),
    "warm-up, stable, decay": Variant(schedule=warm_stable_decay),
    "batch 32": Variant(batch_size=32),
    "batch 128": Variant(batch_size=128),
    "no dropout": Variant(keys={"dropout": 0.0}),
    "final lr 0.01": Variant(final_lr_ratio=0.01),
    "codebook head": Variant(keys={"head": "codebook"}),
    "all": Variant(
        change=several(grid_rotary, qk_norm, zero_residual, label_everywhere), muon_lr=0.01
    ),
}


def train(name: str, seed: int, settings: VariantsConfig) -> dict[str, Any]:
    """Trains one variant; what it reached."""
    variant, manifest = VARIANTS[name], read_manifest(settings.codes)
    items = {split: read_codes(settings.codes, split) for split in ("train", "validation")}
    keys: dict[str, Any] = {"dropout": settings.dropout, "size": "1m", "seed": seed} | variant.keys
    config = TrainPriorConfig(
        run_dir=Path(), codes=settings.codes, tokenizer=settings.tokenizer, **keys
    )
    prior = build_prior(config, manifest, items)
    variant.change(prior, manifest["grid"])
    prior.train()
    optim = OptimConfig(
        lr=variant.lr, weight_decay=0.1, warmup_steps=50, final_lr_ratio=variant.final_lr_ratio
    )
    optimizers = new_optimizers(prior, variant, optim)
    average = Average(prior, variant.ema_decay)
    data = CodeDataset(items["train"], prior, config.label_dropout, seed)
    batches = training_batches(
        data, batch_size=variant.batch_size, done=0, rank=0, world=1, workers=0
    )

    def step(index: int, total: int) -> None:
        seed_step(seed, index, 0)
        prior(*next(batches)).backward()
        nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        share = variant.schedule(index, total, optim) / optim.lr
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak_lr"]
            optimizer.step()
            optimizer.zero_grad()
        average.update(index)

    step(0, 1000)
    start = time.process_time()
    for index in range(1, 1 + MEASURED):
        step(index, 1000)
    total = max(round(settings.seconds / (time.process_time() - start) * MEASURED), 60)
    for index in range(1 + MEASURED, total):
        step(index, total)
    spent = time.process_time() - start
    with average.swapped_in():
        bits = held_out_bits(
            prior, CodeDataset(items["validation"], prior, 0.0, seed), settings.held_out
        )
    return {
        "variant": name,
        "seed": seed,
        "steps": total,
        "cpu_seconds": spent,
        "bits_per_item": bits,
    }


def new_optimizers(
    prior: Prior, variant: Variant, optim: OptimConfig
) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the matrices of the body and AdamW for the rest; `peak_lr` is in each group."""
    matrices = []
    if variant.muon_lr is not None:
        matrices = [p for name, p in prior.body.named_parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [(name, p) for name, p in prior.named_parameters() if id(p) not in chosen]
    groups = decay_groups(rest, optim.weight_decay)
    for group in groups:
        group["peak_lr"] = optim.lr
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, optim.lr, optim.betas, fused=True)
    ]
    if matrices:
        given = [{"params": matrices, "peak_lr": variant.muon_lr}]
        optimizers.append(torch.optim.Muon(given, variant.muon_lr or 0.0, optim.weight_decay))
    return optimizers


@torch.no_grad()
def held_out_bits(prior: Prior, items: CodeDataset, most: int) -> float:
    """Bits of a held-out item, in the mean."""
    prior.eval()
    batches = held_out_batches(items, batch_size=250, rank=0, world=1)
    nats = torch.cat([prior.nats(*batch) for batch in islice(batches, -(-most // 250))])
    return float(nats.mean()) / math.log(2)


def main() -> None:
    settings = load_config(VariantsConfig, None, sys.argv[1:])
    lines = (
        [json.loads(line) for line in settings.out.read_text().splitlines()]
        if settings.out.exists()
        else []
    )
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(settings.seeds):
        for name in settings.variants or VARIANTS:
            if not any((line["variant"], line["seed"]) == (name, seed) for line in lines):
                lines.append(train(name, seed, settings))
                with settings.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(lines[-1], flush=True)
    table(lines)


def table(lines: list[dict[str, Any]]) -> None:
    """A row for each variant: median and range of the bits, and the paired difference to today's recipe."""
    today = {line["seed"]: line["bits_per_item"] for line in lines if line["variant"] == "today"}
    print(
        "| variant | seeds | steps | bits per item | range | against today |\n| --- | ---: | ---: | ---: | --- | ---: |"
    )
    for name in VARIANTS:
        own = [line for line in lines if line["variant"] == name]
        if own:
            bits = [line["bits_per_item"] for line in own]
            paired = [
                100 * (line["bits_per_item"] / today[line["seed"]] - 1)
                for line in own
                if line["seed"] in today
            ]
            print(
                f"| {name} | {len(own)} | {round(median(line['steps'] for line in own)):,} | {median(bits):.2f} | "
                f"{min(bits):.2f} to {max(bits):.2f} | {median(paired):+.2f} % |"
            )


if __name__ == "__main__":
    main()
