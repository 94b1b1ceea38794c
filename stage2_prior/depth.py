"""DepthPrior: positions by one transformer, the codes of a position by a second, small one (arXiv 2203.01941)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stage2_prior.config import PriorConfig
from stage2_prior.decoding import SIZES, CachedBody, DepthBody, cached, new_body
from stage2_prior.embeddings import LevelVocabulary
from stage2_prior.model import Prior
from stage2_prior.orders import Places


class DepthPrior(Prior):
    """p(codes | condition): a position's state from all before it, then its codes one after the other.

    The body sees each position as the sum of its codes' vectors. The small transformer starts from the state
    that the body predicts a position from, and then sees the sums of the vectors of 1, 2, ... of its codes
    (section 3.2). Different from the paper: the vectors are learned, not the tokenizer's; the targets are the
    codes themselves, not soft ones. Where sequences end, the end can stand in the place of a position's first code.
    """

    vocabulary: LevelVocabulary

    def __init__(self, config: PriorConfig) -> None:
        if config.levels_by != "depth":
            raise ValueError(
                f"levels_by={config.levels_by!r} is of another class: use Prior(config), or set levels_by='depth'"
            )
        super().__init__(config)
        *_, layers = SIZES[config.size]
        self.depth = new_body(config.size, config.style, config.levels, config.dropout, layers)

    def new_vocabulary(self, width: int) -> LevelVocabulary:
        """One with a head for each level."""
        config = self.config
        return LevelVocabulary(config.level_sizes, config.codebook_size, config.ends, width)

    def states_and_targets(
        self, conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"], order: Places = None
    ) -> tuple[Float[Tensor, "b m levels w"], Int[Tensor, "b t"]]:
        """What each target is predicted from, and the targets."""
        targets = self.targets(codes)
        filled = F.pad(codes.clamp_min(0), (0, targets.shape[1] - codes.shape[1]))
        return self.hidden(conditions, filled, order), targets

    def summed(
        self, hidden: Float[Tensor, "b m levels w"], targets: Int[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """The sum of the cross-entropies, in nats: over all levels, as a flattened prior's is."""
        parts = self.by_level(hidden, targets)
        return torch.stack([self.summed_cross_entropy(*part) for part in parts]).sum()

    def losses(
        self, hidden: Float[Tensor, "b m levels w"], targets: Int[Tensor, "b t"]
    ) -> Float[Tensor, "b t"]:
        """The terms of `summed`, without gradient."""
        parts = self.by_level(hidden, targets)
        return torch.stack([self.cross_entropies(*part) for part in parts], 1).view(targets.shape)

    def by_level(
        self, hidden: Float[Tensor, "b m levels w"], targets: Int[Tensor, "b t"]
    ) -> Iterator[tuple[Float[Tensor, "n w"], Int[Tensor, " n"], int]]:
        """The states and the targets of each level, and its number."""
        states, codes = hidden.flatten(0, 1), self.by_position(targets).flatten(0, 1)
        for level, size in enumerate(self.config.level_sizes):
            # The end is K among the targets, but right after this level's codes in its logits.
            yield states[:, level], codes[:, level].clamp_max(size), level

    def hidden(
        self, conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"], order: Places = None
    ) -> Float[Tensor, "b h levels w"]:
        """The state from which each code of each position is predicted."""
        vectors, prefix = self.vocabulary.embed(self.by_position(codes)), self.prefix(conditions)
        inputs = torch.cat([prefix, vectors[:, :-1].sum(2)], dim=1)
        inputs = self.add_order_embeddings(inputs, order, codes.shape[1] - self.config.levels)
        out = self.body(inputs_embeds=self.dropout(inputs), use_cache=False).last_hidden_state
        states = out[:, prefix.shape[1] - 1 :]
        sums = vectors[:, :, :-1].cumsum(2)
        inputs = torch.cat([states[:, :, None], self.dropout(sums)], dim=2).flatten(0, 1)
        by_depth = self.depth(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return by_depth.unflatten(0, vectors.shape[:2])

    def by_position(self, codes: Int[Tensor, "b n"]) -> Int[Tensor, "b h levels"]:
        """The codes position by position."""
        levels = self.config.levels
        return codes.unflatten(1, (codes.shape[1] // levels, levels))

    def first_inputs(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b m w"]:
        """The body's inputs for the first codes of a sequence, of whole positions."""
        return self.vocabulary.embed(self.by_position(codes)).sum(2)

    def next_input(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b 1 w"]:
        """The sum of the vectors of a position's codes so far; at its start, of all codes of the position before."""
        so_far = codes.shape[1] % self.config.levels or self.config.levels
        return self.vocabulary.embed(codes[:, -so_far:]).sum(1, keepdim=True)

    def cached_body(self, batch_size: int) -> CachedBody:
        """Both transformers, for sampling."""
        positions = super().cached_body(batch_size)
        return DepthBody(positions, cached(self.depth, batch_size), self.config.levels)

    def logits(self, states: Float[Tensor, "b w"], place: int) -> Float[Tensor, "b k"]:
        """The logits of the code at a place of the sequence, in float32."""
        return self.vocabulary.logits(states, place % self.config.levels).float()
