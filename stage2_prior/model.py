"""Prior: a stock decoder-only transformer over codes, with tables of its own for codes and conditions."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel, PreTrainedModel

from common.hub import HubModel
from common.stopwatch import part
from stage2_prior.cross_entropy import linear_cross_entropy
from stage2_prior.decoding import Decoder, decoder, guided

SIZES = {
    "1m": (5, 128, 4),
    "3m": (7, 192, 6),
    "10m": (8, 320, 5),
    "30m": (10, 512, 8),
    "85m": (12, 768, 12),
    "300m": (24, 1024, 16),
    "700m": (36, 1280, 20),
}
"""Layers, width and heads, named by the parameters of the body. With its tables for 16,384 codes `85m` has the
111 M of LlamaGen-B, `300m` is its L and `700m` its XL."""
Size = Literal["1m", "3m", "10m", "30m", "85m", "300m", "700m"]
IGNORED = -1
"""Stands in a batch where an item has no further code."""
Linear = tuple[Tensor, Tensor, Tensor | None]
"""States, weight and bias whose linear map is the logits."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    codebook_size: int
    """Number of codes, K: the vocabulary exactly; with several codes per position, the largest of theirs."""
    code_dim: int
    """Dimension of the tokenizer's code vectors."""
    length: int
    """Codes of one item, all those of a position one after the other."""
    sizes: tuple[int, ...] = ()
    """Where a position has several codes, the number that each is out of."""
    levels_by: Literal["flattened", "depth"] = "flattened"
    """How several codes of a position are predicted: `flattened`, as if each were a position; `depth`, by a
    small transformer of their own (`DepthPrior`)."""
    classes: int = 0
    """Number of labels; 0 for an unconditional prior."""
    size: Size = "3m"
    style: Literal["llama", "gpt2"] = "llama"
    head: Literal["learned", "codebook"] = "learned"
    """`learned`: two tables of K vectors. `codebook`: the tokenizer's frozen codebook, with a learned linear map
    to the width at the input and one back at the output."""
    dropout: float = 0.0
    """Of embeddings and attention, for gpt2 of residual branches too."""

    def __post_init__(self) -> None:
        if self.head == "codebook" and (self.levels > 1 or self.levels_by == "depth"):
            raise ValueError(
                f"head='codebook' is for one code per position, predicted by itself, but there are {self.levels} "
                f"and levels_by={self.levels_by!r}: set head=learned"
            )

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """The number of codes that each code of a position is out of."""
        return self.sizes or (self.codebook_size,)

    @property
    def levels(self) -> int:
        """Codes of one position."""
        return len(self.level_sizes)

    @property
    def symbols(self) -> int:
        """Number of what can come next."""
        return self.codebook_size

    @property
    def condition_rows(self) -> int:
        """Rows of the table of conditions: the labels and, last, the row for none."""
        return self.classes + 1

    @property
    def codes_per_input(self) -> int:
        """Codes that the body takes in at once."""
        return self.levels if self.levels_by == "depth" else 1

    @property
    def positions(self) -> int:
        """Inputs of the longest item, condition included."""
        return self.length // self.codes_per_input


class LearnedTables(nn.Module):
    """A vector for each code at the input, another for each symbol at the output.

    The codes of different levels have different vectors at the input, by which the body knows the level.
    """

    starts: Tensor

    def __init__(self, config: PriorConfig, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sum(config.level_sizes), width)
        self.output = nn.Linear(width, config.symbols, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.output.weight, std=0.02)
        self.register_buffer("starts", level_starts(config), persistent=False)

    def embed(self, codes: Int[Tensor, "b n"], first: int = 0) -> Float[Tensor, "b n w"]:
        """Vectors of successive codes, of which the first is the item's code number `first`."""
        numbers = torch.arange(first, first + codes.shape[1], device=codes.device)
        return self.embedding(codes + self.starts[numbers % len(self.starts)])

    def logits(self, hidden: Float[Tensor, "*b w"]) -> Float[Tensor, "*b k"]:
        return self.output(hidden)

    def linear(self, hidden: Float[Tensor, "n w"]) -> Linear:
        """What the logits are the linear map of."""
        return hidden, self.output.weight, None


class CodebookTables(nn.Module):
    """The tokenizer's frozen codebook at both ends: d x width parameters each, where a table has K x width.

    The codebook is standardised, for a tokenizer's scale is arbitrary. A bias per code at the output carries
    the codes' frequencies, which inner products with the codebook can hardly express.
    """

    codebook: Tensor

    def __init__(self, config: PriorConfig, width: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(config.codebook_size, config.code_dim))
        self.input_map = nn.Linear(config.code_dim, width)
        self.output_map = nn.Linear(width, config.code_dim)
        self.output_bias = nn.Parameter(torch.zeros(config.codebook_size))
        nn.init.normal_(self.input_map.weight, std=0.02)
        nn.init.normal_(self.output_map.weight, std=0.02)
        ends = config.symbols - config.codebook_size
        self.end = nn.Linear(width, ends) if ends else None

    @torch.no_grad()
    def take(self, codebook: Float[Tensor, "k d"]) -> None:
        """Copies a tokenizer's codebook, centred and with unit variance."""
        centred = codebook.float() - codebook.float().mean(0)
        self.codebook.copy_(centred / centred.std(0).clamp_min(1e-6))

    def embed(self, codes: Int[Tensor, "b n"], first: int = 0) -> Float[Tensor, "b n w"]:
        return self.input_map(F.embedding(codes, self.codebook))

    def logits(self, hidden: Float[Tensor, "*b w"]) -> Float[Tensor, "*b k"]:
        logits = F.linear(self.output_map(hidden), self.codebook, self.output_bias)
        return logits if self.end is None else torch.cat([logits, self.end(hidden)], dim=-1)

    def linear(self, hidden: Float[Tensor, "n w"]) -> Linear:
        """What the logits are the linear map of: to an end belongs a dimension of its own, in which codes are 0."""
        states = self.output_map(hidden)
        if self.end is None:
            return states, self.codebook, self.output_bias
        ends = torch.eye(self.end.out_features, device=hidden.device)
        return (
            torch.cat([states, self.end(hidden)], dim=-1),
            torch.block_diag(self.codebook, ends),
            F.pad(self.output_bias, (0, len(ends))),
        )


class Prior(HubModel):
    """p(codes | condition), one code after the other, in raster order for pictures."""

    config_class = PriorConfig
    config: PriorConfig
    body: PreTrainedModel

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        self.body, width = body(config)
        self.body.set_input_embeddings(
            nn.Identity()
        )  # codes and conditions have tables of their own
        self.tables = self.new_tables(width)
        self.condition_embedding = nn.Embedding(config.condition_rows, width)
        nn.init.normal_(self.condition_embedding.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)

    def new_tables(self, width: int) -> Any:
        """What `head` names."""
        tables = LearnedTables if self.config.head == "learned" else CodebookTables
        return tables(self.config, width)

    @property
    def no_condition(self) -> int:
        """The condition that stands for none: of an unconditional prior, and of guidance."""
        return self.config.classes

    def forward(
        self, conditions: Int[Tensor, "b *p"], codes: Int[Tensor, "b n"]
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of what is to be predicted, in nats per code."""
        answers = self.answers(codes)
        before = codes[:, : answers.shape[1] - 1].clamp_min(0)
        hidden = self.hidden(conditions, before)
        total = self.summed_cross_entropy(hidden.flatten(0, 1), answers.flatten())
        return total / self.targets(codes)

    def answers(self, codes: Int[Tensor, "b n"]) -> Int[Tensor, "b m"]:
        """What is to be predicted of each item: its codes."""
        return codes

    def targets(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The number of predictions in a batch that its loss is the mean of."""
        return torch.full((), float(codes.numel()), device=codes.device)

    def prefix(self, conditions: Int[Tensor, "b *p"]) -> Float[Tensor, "b m w"]:
        """What comes before the codes: a vector for the condition, or for each of its parts."""
        return self.condition_embedding(conditions.reshape(len(conditions), -1))

    def hidden(
        self, conditions: Int[Tensor, "b *p"], codes: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b m w"]:
        """The state from which each code is predicted, the one after the last included."""
        start = self.prefix(conditions)
        inputs = torch.cat([start, self.seen(codes)], dim=1)
        out = self.body(inputs_embeds=self.dropout(inputs), use_cache=False).last_hidden_state
        return out[:, start.shape[1] - 1 :]

    def seen(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b m w"]:
        """The body's inputs for the first codes of an item, of whole positions."""
        return self.tables.embed(codes)

    def new_cache(self, rows: int) -> Any:
        """What `step` keeps of as many items."""
        return decoder(self.body, rows)

    def step(
        self, inputs: Float[Tensor, "_ n w"], cache: Decoder, guidance: float | None = None
    ) -> Float[Tensor, "b k"]:
        """Logits of the next code after `inputs`; the cache takes them in. With guidance as `guided` has it."""
        return self.tables.logits(guided(cache(inputs), guidance)).float()

    def after(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b 1 w"]:
        """The input of the step that follows these codes, all of an item so far."""
        return self.tables.embed(codes[:, -1:], codes.shape[1] - 1)

    @part("losses")
    def summed_cross_entropy(
        self, hidden: Float[Tensor, "n w"], codes: Int[Tensor, " n"], *level: int
    ) -> Float[Tensor, ""]:
        """The sum over codes that are not IGNORED, in float32; of one level where tables have several."""
        states, weight, bias = self.tables.linear(hidden, *level)
        return linear_cross_entropy(states, weight, bias, codes, IGNORED)


def level_starts(config: PriorConfig) -> Int[Tensor, " levels"]:
    """The first row of each level's codes in a table of all."""
    return torch.tensor([0, *config.level_sizes[:-1]]).cumsum(0)


def body(
    config: PriorConfig, layers: int | None = None, positions: int | None = None
) -> tuple[PreTrainedModel, int]:
    """A stock transformer of transformers and its width; layers and positions are the config's unless given."""
    usual, width, heads = SIZES[config.size]
    layers, positions = layers or usual, positions or config.positions
    if config.style == "gpt2":
        gpt2 = GPT2Config(
            vocab_size=1,
            n_positions=positions,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            resid_pdrop=config.dropout,
            embd_pdrop=0.0,
            attn_pdrop=config.dropout,
            bos_token_id=None,
            eos_token_id=None,
        )
        return GPT2Model(gpt2), width
    llama = LlamaConfig(
        vocab_size=1,
        max_position_embeddings=positions,
        hidden_size=width,
        intermediate_size=-(-8 * width // 3 // 64) * 64,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        attention_dropout=config.dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaModel(llama), width
