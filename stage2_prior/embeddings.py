"""Vocabularies: the embedding of codes at a prior's input, and the head that makes their logits at its output."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

LogitParts = tuple[Tensor, Tensor, Tensor | None]
"""States, weight and bias, of which logits = states @ weight.T + bias."""


class LearnedVectors(nn.Module):
    """A learned vector for each code of each level at the input, and one for each of `outputs` at the output."""

    offsets: Tensor
    """The first entry of each level's codes in the embedding."""

    def __init__(self, level_sizes: tuple[int, ...], outputs: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sum(level_sizes), width)
        self.output = nn.Linear(width, outputs, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.output.weight, std=0.02)
        offsets = torch.tensor([0, *level_sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)


class LearnedVocabulary(LearnedVectors):
    """A learned vector for each code at the input, and another for each code and the end at the output.

    The codes of different levels have different vectors at the input, by which the body knows the level.
    """

    def __init__(
        self, level_sizes: tuple[int, ...], codebook_size: int, ends: bool, width: int
    ) -> None:
        super().__init__(level_sizes, codebook_size + ends, width)

    def embed(self, codes: Int[Tensor, "b n"], first: int = 0) -> Float[Tensor, "b n w"]:
        """The vectors of successive codes, of which the first has the place `first` in its sequence."""
        places = torch.arange(first, first + codes.shape[1], device=codes.device)
        return self.embedding(codes + self.offsets[places % len(self.offsets)])

    def logits(self, hidden: Float[Tensor, "*b w"]) -> Float[Tensor, "*b k"]:
        return self.output(hidden)

    def linear(self, hidden: Float[Tensor, "n w"]) -> LogitParts:
        """States, weight and bias of the logits."""
        return hidden, self.output.weight, None


class CodebookVocabulary(nn.Module):
    """The tokenizer's frozen codebook at input and output, each with a d x width map; learned vectors are K x width.

    The codebook is standardised, for a tokenizer's scale is arbitrary. A bias per code at the output carries
    the codes' frequencies, which inner products with the codebook can hardly express.
    """

    codebook: Tensor

    def __init__(self, codebook_size: int, code_dim: int, ends: bool, width: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(codebook_size, code_dim))
        self.input_map = nn.Linear(code_dim, width)
        self.output_map = nn.Linear(width, code_dim)
        self.output_bias = nn.Parameter(torch.zeros(codebook_size))
        nn.init.normal_(self.input_map.weight, std=0.02)
        nn.init.normal_(self.output_map.weight, std=0.02)
        self.end = nn.Linear(width, 1) if ends else None

    @torch.no_grad()
    def set_codebook(self, codebook: Float[Tensor, "k d"]) -> None:
        """Copies a tokenizer's codebook, centred and with unit variance."""
        centred = codebook.float() - codebook.float().mean(0)
        self.codebook.copy_(centred / centred.std(0).clamp_min(1e-6))

    def embed(self, codes: Int[Tensor, "b n"], first: int = 0) -> Float[Tensor, "b n w"]:
        """The vectors of codes; there is one level, so that `first` makes no difference."""
        return self.input_map(F.embedding(codes, self.codebook))

    def logits(self, hidden: Float[Tensor, "*b w"]) -> Float[Tensor, "*b k"]:
        logits = F.linear(self.output_map(hidden), self.codebook, self.output_bias)
        return logits if self.end is None else torch.cat([logits, self.end(hidden)], dim=-1)

    def linear(self, hidden: Float[Tensor, "n w"]) -> LogitParts:
        """States, weight and bias of the logits; the end has a dimension of its own, in which codes are 0."""
        states = self.output_map(hidden)
        if self.end is None:
            return states, self.codebook, self.output_bias
        return (
            torch.cat([states, self.end(hidden)], dim=-1),
            torch.block_diag(self.codebook, torch.ones(1, 1, device=hidden.device)),
            F.pad(self.output_bias, (0, 1)),
        )


class LevelVocabulary(LearnedVectors):
    """Learned vectors of each level's codes at the input, and a head of its own for each level at the output.

    The first level's head has the end too, where sequences end.
    """

    def __init__(
        self, level_sizes: tuple[int, ...], codebook_size: int, ends: bool, width: int
    ) -> None:
        head_sizes = (level_sizes[0] + ends, *level_sizes[1:])
        super().__init__(level_sizes, sum(head_sizes), width)
        self.level_sizes, self.codebook_size, self.ends = level_sizes, codebook_size, ends
        self.head_sizes = head_sizes

    def embed(self, codes: Int[Tensor, "*b m"]) -> Float[Tensor, "*b m w"]:
        """The vectors of the first m codes of each position."""
        return self.embedding(codes + self.offsets[: codes.shape[-1]])

    def logits(self, hidden: Float[Tensor, "*b w"], level: int) -> Float[Tensor, "*b k"]:
        """The logits of all codes and the end at one level; -inf for those that the level does not have."""
        own = F.linear(*self.linear(hidden, level))
        size, end = self.level_sizes[level], self.codebook_size
        logits = own.new_full((*own.shape[:-1], end + self.ends), -torch.inf)
        logits[..., :size] = own[..., :size]
        logits[..., end : end + self.head_sizes[level] - size] = own[..., size:]
        return logits

    def linear(self, hidden: Float[Tensor, "*b w"], level: int) -> LogitParts:
        """States, weight and bias of a level's logits: those of its codes, then the end's."""
        first = sum(self.head_sizes[:level])
        return hidden, self.output.weight[first : first + self.head_sizes[level]], None
