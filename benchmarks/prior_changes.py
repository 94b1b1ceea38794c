"""What benchmarks.prior_variants tries: changes of a prior's network, and of its training."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.training import OptimConfig, learning_rate
from stage2_prior import Prior
from stage2_prior.optimizers import Kind
from stage2_prior.orders import Places


def nothing(prior: Prior, grid: list[int]) -> None:
    """The prior as it is."""


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
    """Adds a second vector of the condition to every code's, beside the one that stands before the codes."""
    embed = nn.Embedding(*prior.condition_embedding.weight.shape)
    nn.init.normal_(embed.weight, std=0.02)
    prior.everywhere = embed

    def hidden(
        conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"], order: Places = None
    ) -> Float[Tensor, "b m w"]:
        added = embed(conditions).sum(1, keepdim=True)
        inputs = torch.cat([prior.prefix(conditions), prior.first_inputs(codes) + added], 1)
        return prior.body(inputs_embeds=prior.dropout(inputs), use_cache=False).last_hidden_state

    prior.hidden = hidden  # type: ignore[method-assign]


def several(*changes: Callable[[Prior, list[int]], None]) -> Callable[[Prior, list[int]], None]:
    """One change after the other."""

    def change(prior: Prior, grid: list[int]) -> None:
        for each in changes:
            each(prior, grid)

    return change


def first_layers(count: int) -> Callable[[Prior, list[int]], None]:
    """The layers after these are left out."""

    def change(prior: Prior, grid: list[int]) -> None:
        prior.body.layers = prior.body.layers[:count]  # type: ignore[index, assignment]
        prior.body.config.num_hidden_layers = count

    return change


def warm_stable_decay(step: int, total: int, optim: OptimConfig) -> float:
    """Linear warm-up, a constant rate, and a linear decay to zero over the last fifth."""
    left = (total - step) / (0.2 * total)
    return optim.lr * min((step + 1) / optim.warmup_steps, 1.0, left)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A prior of 1 M parameters, and its training."""

    change: Callable[[Prior, list[int]], None] = nothing
    """Changes the network before training, given the grid of its codes."""
    lr: float = 8e-3
    batch_size: int = 64
    optimizer: Kind = "muon"
    schedule: Callable[[int, int, OptimConfig], float] = learning_rate
    ema_decay: float = 0.995
    keys: dict[str, Any] = field(default_factory=dict)
    """Of TrainPriorConfig."""

    @property
    def same_work(self) -> bool:
        """Whether a step does the same work as the plain prior's."""
        plain = Variant()
        otherwise = replace(self, change=plain.change, lr=plain.lr, schedule=plain.schedule)
        return self.change in (nothing, scaled_residual, zero_residual) and otherwise == plain


PLAIN_NAME = "Muon, lr 8e-3"
"""What each change is tried alone on."""
VARIANTS = {
    "AdamW, lr 2e-3": Variant(optimizer="adamw", lr=2e-3),
    "AdamW, lr 4e-3": Variant(optimizer="adamw", lr=4e-3),
    "Muon, lr 4e-3": Variant(lr=4e-3),
    PLAIN_NAME: Variant(),
    "Muon, lr 1.6e-2": Variant(lr=1.6e-2),
    "QK-norm": Variant(change=qk_norm),
    "2-D rotary": Variant(change=grid_rotary),
    "scaled residual": Variant(change=scaled_residual),
    "zero residual": Variant(change=zero_residual),
    "label everywhere": Variant(change=label_everywhere),
    "3 layers of 192": Variant(change=first_layers(3), keys={"size": "3m"}),
    "warm-up, stable, decay": Variant(schedule=warm_stable_decay),
    "batch 16": Variant(batch_size=16),
    "batch 32": Variant(batch_size=32),
    "batch 128": Variant(batch_size=128),
    "no dropout": Variant(keys={"dropout": 0.0}),
    "codebook head": Variant(keys={"head": "codebook"}),
    "QK-norm, batch 32": Variant(change=qk_norm, batch_size=32),
    "QK-norm, 2-D rotary, scaled residual": Variant(
        change=several(qk_norm, grid_rotary, scaled_residual)
    ),
}
