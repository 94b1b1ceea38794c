"""Prior: a stock decoder-only transformer over codes, with embeddings of its own for codes and conditions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from common.bounds import Count, Share
from common.hub import HubModel
from stage2_prior.cross_entropy import linear_cross_entropy
from stage2_prior.decoding import CachedBody, Size, Style, cached, new_body
from stage2_prior.embeddings import CodebookVocabulary, LearnedVocabulary
from stage2_prior.orders import Order, OrderEmbeddings, Places
from stage2_prior.texts import spelled

Condition = Literal["none", "label", "speaker", "label+speaker", "text"]
IGNORED = -1
"""Stands in a batch where a sequence has no further code."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    codebook_size: Count
    """Number of codes, K: the vocabulary exactly; with several codes per position, the largest of theirs."""
    code_dim: Count
    """Dimension of the tokenizer's code vectors."""
    length: int
    """Codes of the longest training sequence, all those of a position one after the other."""
    sizes: tuple[int, ...] = ()
    """Where a position has several codes, the number that each is out of."""
    levels_by: Literal["flattened", "depth"] = "flattened"
    """How several codes of a position are predicted: `flattened`, as if each were a position; `depth`, by a
    small transformer of their own (`DepthPrior`)."""
    order: Order = "raster"
    """In which order codes were learned; all but `raster` have embeddings of places, and `random` draws in any order."""
    condition: Condition = "label"
    """What comes before the codes; a part of it that has no values is left out."""
    classes: int = 0
    """Number of labels."""
    speakers: int = 0
    """Number of speakers."""
    characters: str = ""
    """The characters that texts are made of, in lower case."""
    text_length: int = 0
    """Characters of the longest text; shorter ones are padded on the left with none."""
    min_codes: int = 1
    """No sample ends before it has so many codes; it never ends inside a position."""
    max_codes: int | None = None
    """Every sample ends when it has so many codes; null for sequences that all have `length` codes and no end."""
    size: Size = "3m"
    style: Style = "llama"
    head: Literal["learned", "codebook"] = "learned"
    """`learned`: two vectors for each code. `codebook`: the tokenizer's frozen codebook, with a learned linear map
    to the width at the input and one back at the output."""
    dropout: Share = 0.0
    """Of embeddings and attention, for gpt2 of residual branches too."""

    def __post_init__(self) -> None:
        if self.head == "codebook" and (self.levels > 1 or self.levels_by == "depth"):
            raise ValueError(
                f"head='codebook' is for one code per position, predicted by itself, but there are {self.levels} "
                f"and levels_by={self.levels_by!r}: set head=learned"
            )
        self.check_lengths(self.min_codes, self.longest)

    def check_lengths(self, min_codes: int, max_codes: int) -> None:
        """Raises ValueError unless 1 <= min_codes <= max_codes, the second in whole positions."""
        if max_codes % self.levels:
            raise ValueError(
                f"max_codes={max_codes} must be a multiple of the {self.levels} codes of a position: set max_codes"
            )
        if not 1 <= min_codes <= max_codes:
            raise ValueError(
                f"min_codes={min_codes} and max_codes={max_codes} must be at least 1, and the first not "
                "above the second: set min_codes or max_codes"
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
    def ends(self) -> bool:
        """Whether sequences end: then K, after the codes, stands for the end among the targets."""
        return self.max_codes is not None

    @property
    def longest(self) -> int:
        """Codes of the longest sample."""
        return self.length if self.max_codes is None else self.max_codes

    @property
    def parts(self) -> dict[str, int]:
        """What the condition is made of, and how many values each part has beside none."""
        sizes = {"label": self.classes, "speaker": self.speakers, "text": len(self.characters)}
        names = self.condition.split("+")
        return {name: size for name, size in sizes.items() if size and name in names}

    @property
    def no_condition(self) -> tuple[int, ...]:
        """The entries of condition_embedding that stand for none, one for each place of the prefix.

        Each part's entries stand one after the other, none last. Guidance compares with this condition.
        """
        if "text" in self.parts:
            return (len(self.characters),) * self.text_length
        sizes = [size + 1 for size in self.parts.values()] or [1]
        return tuple(end - 1 for end in accumulate(sizes))

    @property
    def codes_per_input(self) -> int:
        """Codes that the body takes in at once."""
        return self.levels if self.levels_by == "depth" else 1

    @property
    def positions(self) -> int:
        """Inputs of the longest sequence, condition included; nothing follows the last code where none ends."""
        longest = max(self.length, self.longest) // self.codes_per_input
        return len(self.no_condition) + longest - (not self.ends)

    @property
    def places(self) -> int:
        """Places of the longest sequence, its end's included, that the body tells apart where orders differ."""
        return max(self.length, self.longest) // self.codes_per_input + self.ends


class Prior(HubModel):
    """p(codes | condition), one code after the other, in raster order for images; then the end, where sequences end.

    Attention is causal, so that what stands past a sequence's end changes nothing before it.
    """

    config_class = PriorConfig
    not_compiled = ("summed_cross_entropy",)
    """For the number of its chunks depends on the batch."""
    config: PriorConfig
    body: PreTrainedModel
    vocabulary: Any

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        self.body = new_body(config.size, config.style, config.positions, config.dropout)
        width = self.body.config.hidden_size
        self.vocabulary = self.new_vocabulary(width)
        self.condition_embedding = nn.Embedding(config.no_condition[-1] + 1, width)
        nn.init.normal_(self.condition_embedding.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)
        self.order = OrderEmbeddings(config.places, width) if config.order != "raster" else None

    @classmethod
    def current_name(cls, name: str) -> str:
        """Earlier versions saved the vocabulary as `tables`."""
        return re.sub(r"^tables\.", "vocabulary.", name)

    def new_vocabulary(self, width: int) -> Any:
        """What `head` names."""
        size, ends = self.config.codebook_size, self.config.ends
        if self.config.head == "codebook":
            return CodebookVocabulary(size, self.config.code_dim, ends, width)
        return LearnedVocabulary(self.config.level_sizes, size, ends, width)

    def forward(
        self, conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"], order: Places = None
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of the targets, in nats per code. `order` has the places of codes that are not in raster order."""
        total = self.summed(*self.states_and_targets(conditions, codes, order))
        return total / self.num_targets(codes)

    @torch.no_grad()
    def nats(
        self, conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"], order: Places = None
    ) -> Float[Tensor, " b"]:
        """-log p(codes | condition) of each sequence, its end included."""
        pairs = zip(*self.states_and_targets(conditions, codes, order), strict=True)
        return torch.stack([self.summed(states[None], own[None]) for states, own in pairs])

    def states_and_targets(
        self, conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"], order: Places = None
    ) -> tuple[Float[Tensor, "b m *levels w"], Int[Tensor, "b t"]]:
        """What each target is predicted from, and the targets."""
        targets = self.targets(codes)
        before = codes[:, : targets.shape[1] - 1].clamp_min(0)
        return self.hidden(conditions, before, order), targets

    def summed(
        self, hidden: Float[Tensor, "b m *levels w"], targets: Int[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """The sum of the cross-entropies, in nats."""
        return self.summed_cross_entropy(hidden.flatten(0, 1), targets.flatten())

    def targets(self, codes: Int[Tensor, "b n"]) -> Int[Tensor, "b m"]:
        """What is to be predicted: the codes and, where sequences end, K after each one's last; else IGNORED."""
        if not self.config.ends:
            return codes
        lengths = (codes != IGNORED).sum(1, keepdim=True)
        longer = F.pad(codes, (0, self.config.codes_per_input), value=IGNORED)
        return longer.scatter(1, lengths, self.config.codebook_size)

    def num_targets(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The number of codes and ends in a batch, which its loss is the mean over."""
        return ((codes != IGNORED).sum() + int(self.config.ends) * len(codes)).float()

    def prefix(self, conditions: Int[Tensor, "b p"]) -> Float[Tensor, "b p w"]:
        """What comes before the codes: a vector for each place of the condition."""
        return self.condition_embedding(conditions)

    def hidden(
        self, conditions: Int[Tensor, "b p"], codes: Int[Tensor, "b n"], order: Places = None
    ) -> Float[Tensor, "b m w"]:
        """The state from which each code is predicted, the one after the last included."""
        prefix = self.prefix(conditions)
        inputs = torch.cat([prefix, self.first_inputs(codes)], dim=1)
        inputs = self.placed(inputs, order, codes.shape[1])
        out = self.body(inputs_embeds=self.dropout(inputs), use_cache=False).last_hidden_state
        return out[:, prefix.shape[1] - 1 :]

    def placed(
        self, inputs: Float[Tensor, "b m w"], order: Places, last: int
    ) -> Float[Tensor, "b m w"]:
        """The inputs with the places that the prior knows; from the last input the code `last` of the order is predicted."""
        together = self.config.codes_per_input
        if self.order is None or last % together:
            return inputs
        if order is None:
            order = torch.arange(self.config.places * together, device=inputs.device)[None]
        return self.order(inputs, order[:, ::together] // together, last // together)

    def first_inputs(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b m w"]:
        """The body's inputs for the first codes of a sequence, of whole positions."""
        return self.vocabulary.embed(codes)

    def next_input(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b 1 w"]:
        """The input after which the next code is predicted, from all codes of a sequence so far."""
        return self.vocabulary.embed(codes[:, -1:], codes.shape[1] - 1)

    def cached_body(self, batch_size: int) -> CachedBody:
        """The body for sampling, from one input to the next."""
        return cached(self.body, batch_size)

    def logits(self, states: Float[Tensor, "b w"], place: int) -> Float[Tensor, "b k"]:
        """The logits of the code at a place of the sequence, in float32."""
        return self.vocabulary.logits(states).float()

    def summed_cross_entropy(
        self, hidden: Float[Tensor, "n w"], targets: Int[Tensor, " n"], *level: int
    ) -> Float[Tensor, ""]:
        """The sum over targets that are not IGNORED, in float32; of one level where each has a head."""
        states, weight, bias = self.vocabulary.linear(hidden, *level)
        return linear_cross_entropy(states, weight, bias, targets, IGNORED)

    def conditions(
        self,
        count: int,
        *,
        labels: Sequence[int] | None = None,
        speakers: Sequence[int] | None = None,
        texts: Sequence[str] | None = None,
    ) -> Int[Tensor, "b p"]:
        """The conditions of `count` items, as entries of condition_embedding; what is left out is none.

        Raises ValueError for what this prior does not know.
        """
        config, given = self.config, {"label": labels, "speaker": speakers, "text": texts}
        for name, values in given.items():
            if values is not None and name not in config.parts:
                raise ValueError(
                    f"{name}s were given, but this prior's condition is {'+'.join(config.parts) or 'none'!r}, one of "
                    f"{', '.join(get_args(Condition))}: leave {name}s out"
                )
            if values is not None and len(values) != count:
                raise ValueError(f"{len(values)} {name}s for {count} samples: give one for each")
        if texts is not None:
            characters, padding = config.characters, config.no_condition
            return torch.stack([spelled(text.lower(), characters, padding) for text in texts])
        entries = torch.tensor(config.no_condition).repeat(count, 1)
        for place, (name, size) in enumerate(config.parts.items()):
            values = labels if name == "label" else speakers if name == "speaker" else None
            for value in values or ():
                if not 0 <= value < size:
                    raise ValueError(
                        f"{name} {value}: this prior has {size} {name}s, counted from 0; leave {name}s out for none"
                    )
            if values is not None:
                entries[:, place] = config.no_condition[place] - size + torch.tensor(list(values))
        return entries
