"""Orders: which code is predicted after which, and the embeddings by which a prior knows that."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Order = Literal["raster", "random", "annealed"]
Places = Int[Tensor, "b o"] | None
"""Where the codes of each sequence stand, in the order in which they are predicted; None for raster order."""


def random_share(order: Order, done: float) -> float:
    """The share of sequences that are learned in random order when `done` of the training is.

    `annealed` is 1 for half of the training and then falls linearly to 0 at three quarters, as RAR's (arXiv
    2411.00776) does over 200, 300 and 400 epochs.
    """
    if order == "annealed":
        return min(max(3 - 4 * done, 0.0), 1.0)
    return 0.5 if order == "random" else 0.0


def random_order(
    codes: int, levels: int, length: int, generator: torch.Generator
) -> Int[Tensor, " length"]:
    """The places of a sequence's codes, its positions shuffled and the codes of each together; then the places past its end."""
    shuffled = torch.randperm(codes // levels, generator=generator)
    return by_code(torch.cat([shuffled, torch.arange(codes // levels, length // levels)]), levels)


def known_first(mask: Bool[Tensor, " q"], levels: int, length: int) -> Int[Tensor, " length"]:
    """The places of a sequence's codes, those of known positions first; then the places past its end."""
    order = torch.cat([mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]])
    return by_code(torch.cat([order, torch.arange(len(mask), length // levels)]), levels)


def by_code(positions: Int[Tensor, " q"], levels: int) -> Int[Tensor, " n"]:
    """The places of the codes of these positions."""
    return (positions[:, None] * levels + torch.arange(levels)).flatten()


def as_prompts(
    known: Sequence[Int[Tensor, "_ levels"]],
    masks: Sequence[Bool[Tensor, " _"]],
    order: Order,
    length: int,
) -> tuple[list[Int[Tensor, " _"]], Places]:
    """What a sampler begins each sample with, and the order of `length` codes in which it goes on; None for raster order.

    Raises ValueError for a mask that leaves nothing to draw, and where the prior can't look ahead, for one that
    keeps more than the first positions.
    """
    for i, mask in enumerate(masks):
        if mask.all():
            raise ValueError(
                f"mask {i} keeps all {len(mask)} positions: set it to False where codes are to be sampled"
            )
        if order != "random" and not mask[: int(mask.sum())].all():
            raise ValueError(
                f"mask {i} keeps positions after some that are to be sampled, but this prior samples each from those before it "
                "alone: keep only the first positions, or train a prior with order=random"
            )
    prompts = [codes[mask].flatten() for codes, mask in zip(known, masks, strict=True)]
    if order != "random":
        return prompts, None
    levels = known[0].shape[1]
    return prompts, torch.stack([known_first(mask, levels, length) for mask in masks])


def in_raster(codes: Int[Tensor, "b n"], order: Places) -> Int[Tensor, "b n"]:
    """Codes given in sampling order, each moved to its place; the sequences must be complete."""
    if order is None:
        return codes
    return torch.empty_like(codes).scatter(1, order[:, : codes.shape[1]], codes)


class OrderEmbeddings(nn.Module):
    """Learned vectors for the place of each code that a prior sees, and for the place of the one it is to predict next.

    With the second, RAR's target-aware embeddings, the same codes predict different places.
    """

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.own, self.target = nn.Embedding(places, width), nn.Embedding(places, width)
        nn.init.normal_(self.own.weight, std=0.02)
        nn.init.normal_(self.target.weight, std=0.02)

    def forward(
        self, inputs: Float[Tensor, "b m w"], order: Int[Tensor, "_ n"], last: int
    ) -> Float[Tensor, "b m w"]:
        """The inputs plus both embeddings. The last input predicts the code at `order[:, last]`, the input before it
        the code at `order[:, last - 1]`, and so on. The condition has no place of its own."""
        first = max(last + 1 - inputs.shape[1], 0)
        added = self.target(order[:, first : last + 1])
        own = self.own(order[:, max(first - 1, 0) : last])
        added = added + F.pad(own, (0, 0, added.shape[1] - own.shape[1], 0))
        return inputs + F.pad(added, (0, 0, inputs.shape[1] - added.shape[1], 0))
