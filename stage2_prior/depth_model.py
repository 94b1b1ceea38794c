"""DepthPrior: positions by one transformer, the codes of a position by a second, small one (arXiv 2203.01941)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.config import load_config
from common.hub import local_folder
from stage2_prior.decoding import Decoder, decoder, guided
from stage2_prior.model import Linear, Prior, PriorConfig, Size, body, level_starts

DEPTH_LAYERS: dict[Size, int] = {
    "1m": 2,
    "3m": 2,
    "10m": 3,
    "30m": 3,
    "85m": 4,
    "300m": 4,
    "700m": 6,
}
"""Layers of the small transformer, of the body's width, by the size of the body; the paper has 4 beside 12 or 24."""


class DepthTables(nn.Module):
    """Vectors of each level's codes at the input, and others at the output."""

    starts: Tensor

    def __init__(self, config: PriorConfig, width: int) -> None:
        super().__init__()
        self.sizes = config.level_sizes
        self.embedding = nn.Embedding(sum(self.sizes), width)
        self.output = nn.Linear(width, sum(self.sizes), bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.output.weight, std=0.02)
        self.register_buffer("starts", level_starts(config), persistent=False)

    def embed(self, codes: Int[Tensor, "*b m"]) -> Float[Tensor, "*b m w"]:
        """Vectors of the first m codes of each position."""
        return self.embedding(codes + self.starts[: codes.shape[-1]])

    def logits(self, hidden: Float[Tensor, "*b w"], level: int) -> Float[Tensor, "*b k"]:
        """Those of the codes of one level."""
        return F.linear(*self.linear(hidden, level))

    def linear(self, hidden: Float[Tensor, "*b w"], level: int) -> Linear:
        """What a level's logits are the linear map of."""
        first = sum(self.sizes[:level])
        return hidden, self.output.weight[first : first + self.sizes[level]], None


class DepthCache:
    """What sampling keeps: the positions so far, and the codes so far of the position in work."""

    def __init__(self, positions: Decoder, codes: Decoder) -> None:
        self.positions, self.codes = positions, codes
        self.level = 0


class DepthPrior(Prior):
    """p(codes | condition): a position's state from all before it, then its codes one after the other.

    The body sees each position as the sum of its codes' vectors. The small transformer starts from the state
    that the body predicts a position from, and then sees the sums of the vectors of 1, 2, ... of its codes
    (section 3.2). Different from the paper: the vectors are learned, not the tokenizer's; the targets are the
    codes themselves, not soft ones.
    """

    config_class = PriorConfig
    config: PriorConfig
    tables: DepthTables

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        layers = DEPTH_LAYERS[config.size]
        self.depth, _ = body(config, layers=layers, positions=config.levels)
        self.depth.set_input_embeddings(nn.Identity())

    def new_tables(self, width: int) -> DepthTables:
        """Tables in which the levels stand one after the other."""
        return DepthTables(self.config, width)

    def forward(
        self, conditions: Int[Tensor, " b"], codes: Int[Tensor, "b n"]
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of the codes, in nats per code: of all levels, as a flattened prior's is."""
        hidden = self.hidden(conditions, codes)
        by_level = self.positions_of(codes).flatten(0, 1)
        sums = [
            self.summed_cross_entropy(hidden.flatten(0, 1)[:, level], by_level[:, level], level)
            for level in range(self.config.levels)
        ]
        return torch.stack(sums).sum() / codes.numel()

    def hidden(
        self, conditions: Int[Tensor, " b"], codes: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b h levels w"]:
        """The state from which each code of each position is predicted."""
        vectors = self.tables.embed(self.positions_of(codes))
        before = torch.cat([self.prefix(conditions), vectors[:, :-1].sum(2)], dim=1)
        states = self.body(inputs_embeds=self.dropout(before), use_cache=False).last_hidden_state
        sums = vectors[:, :, :-1].cumsum(2)
        inputs = torch.cat([states[:, :, None], self.dropout(sums)], dim=2).flatten(0, 1)
        out = self.depth(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return out.unflatten(0, vectors.shape[:2])

    def positions_of(self, codes: Int[Tensor, "b n"]) -> Int[Tensor, "b h levels"]:
        """The codes position by position."""
        return codes.unflatten(1, (-1, self.config.levels))

    def new_cache(self, rows: int) -> DepthCache:
        """What `step` keeps of as many items."""
        return DepthCache(super().new_cache(rows), decoder(self.depth, rows))

    def step(
        self, inputs: Float[Tensor, "_ 1 w"], cache: DepthCache, guidance: float | None = None
    ) -> Float[Tensor, "b k"]:
        """Logits of the next code after `inputs`, which the body sees first where a position begins."""
        level = cache.level
        if level == 0:
            inputs = cache.positions(inputs)[:, None]
            cache.codes.restart()
        state = cache.codes(inputs)
        cache.level = (level + 1) % self.config.levels
        return self.tables.logits(guided(state, guidance), level).float()

    def after(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b 1 w"]:
        """The sum over a position's codes so far: of the last whole one, where a position begins."""
        known = codes.shape[1] % self.config.levels or self.config.levels
        return self.tables.embed(codes[:, -known:]).sum(1, keepdim=True)


def prior_of(config: PriorConfig) -> Prior:
    """A new prior over pictures, of the class that `levels_by` names."""
    return DepthPrior(config) if config.levels_by == "depth" else Prior(config)


def saved_prior(name_or_dir: str | Path) -> Prior:
    """A saved prior over pictures, of the class that its config names."""
    folder = local_folder(name_or_dir)
    config = load_config(PriorConfig, folder / "config.json")
    kind = DepthPrior if config.levels_by == "depth" else Prior
    return kind.from_pretrained(folder)
