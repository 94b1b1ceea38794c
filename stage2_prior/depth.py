"""DepthPrior: positions by one transformer, the codes of a position by a second, small one (arXiv 2203.01941)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

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
    """Vectors of each level's codes at the input, and others at the output, where the first level has the end too."""

    starts: Tensor

    def __init__(self, config: PriorConfig, width: int) -> None:
        super().__init__()
        self.config, sizes = config, config.level_sizes
        self.outputs = (sizes[0] + config.symbols - config.codebook_size, *sizes[1:])
        self.embedding = nn.Embedding(sum(sizes), width)
        self.output = nn.Linear(width, sum(self.outputs), bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.output.weight, std=0.02)
        self.register_buffer("starts", level_starts(config), persistent=False)

    def embed(self, codes: Int[Tensor, "*b m"]) -> Float[Tensor, "*b m w"]:
        """Vectors of the first m codes of each position."""
        return self.embedding(codes + self.starts[: codes.shape[-1]])

    def logits(self, hidden: Float[Tensor, "*b w"], level: int) -> Float[Tensor, "*b k"]:
        """Those of all symbols at one level: -inf for those that it has not."""
        found = F.linear(*self.linear(hidden, level))
        codes, end = self.config.level_sizes[level], self.config.codebook_size
        logits = found.new_full((*found.shape[:-1], self.config.symbols), -torch.inf)
        logits[..., :codes] = found[..., :codes]
        logits[..., end : end + self.outputs[level] - codes] = found[..., codes:]
        return logits

    def linear(self, hidden: Float[Tensor, "*b w"], level: int) -> Linear:
        """What a level's logits are the linear map of: those of its codes, then the end's."""
        first = sum(self.outputs[:level])
        return hidden, self.output.weight[first : first + self.outputs[level]], None


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
        self, conditions: Int[Tensor, "b *p"], codes: Int[Tensor, "b n"]
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of what is to be predicted, in nats: of all levels, as a flattened prior's is."""
        answers = self.answers(codes)
        filled = F.pad(codes.clamp_min(0), (0, answers.shape[1] - codes.shape[1]))
        hidden = self.hidden(conditions, filled).flatten(0, 1)
        by_level = self.positions_of(answers).flatten(0, 1)
        sums = [
            # An end, the symbol after all codes, is the one after this level's codes here.
            self.summed_cross_entropy(hidden[:, level], by_level[:, level].clamp_max(size), level)
            for level, size in enumerate(self.config.level_sizes)
        ]
        return torch.stack(sums).sum() / self.targets(codes)

    def hidden(
        self, conditions: Int[Tensor, "b *p"], codes: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b h levels w"]:
        """The state from which each code of each position is predicted."""
        vectors, start = self.tables.embed(self.positions_of(codes)), self.prefix(conditions)
        before = torch.cat([start, vectors[:, :-1].sum(2)], dim=1)
        out = self.body(inputs_embeds=self.dropout(before), use_cache=False).last_hidden_state
        states = out[:, start.shape[1] - 1 :]
        sums = vectors[:, :, :-1].cumsum(2)
        inputs = torch.cat([states[:, :, None], self.dropout(sums)], dim=2).flatten(0, 1)
        by_depth = self.depth(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return by_depth.unflatten(0, vectors.shape[:2])

    def seen(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b m w"]:
        """The body's inputs for the first codes of an item, of whole positions."""
        return self.tables.embed(self.positions_of(codes)).sum(2)

    def positions_of(self, codes: Int[Tensor, "b n"]) -> Int[Tensor, "b h levels"]:
        """The codes position by position."""
        levels = self.config.levels
        return codes.unflatten(1, (codes.shape[1] // levels, levels))

    def new_cache(self, rows: int) -> DepthCache:
        """What `step` keeps of as many items."""
        return DepthCache(super().new_cache(rows), decoder(self.depth, rows))

    def step(
        self, inputs: Float[Tensor, "_ n w"], cache: DepthCache, guidance: float | None = None
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
