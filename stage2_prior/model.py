"""Prior: a stock decoder-only transformer over codes, with embeddings of its own for codes and conditions."""

import re
from collections.abc import Sequence
from typing import Any, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn
from transformers import PreTrainedModel

from common.hub import HubModel
from stage2_prior.config import Condition, PriorConfig
from stage2_prior.cross_entropy import linear_cross_entropies, linear_cross_entropy
from stage2_prior.decoding import CachedBody, cached, new_body
from stage2_prior.embeddings import CodebookVocabulary, LearnedVocabulary
from stage2_prior.orders import OrderEmbeddings, Places
from stage2_prior.texts import spelled

IGNORED = -1
"""Stands in a batch where a sequence has no further code."""


class Prior(HubModel):
    """p(codes | condition), one code after the other, in raster order for images; then the end, where sequences end.

    Attention is causal, so that what stands past a sequence's end changes nothing before it.

        >>> prior = Prior(PriorConfig(codebook_size=64, code_dim=8, length=16, classes=10, size="1m"))
        >>> codes, conditions = torch.randint(64, (2, 16)), prior.conditions(2, labels=[3, 7])
        >>> loss, nats = prior(conditions, codes), prior.nats(conditions, codes)
        >>> loss.shape, nats.shape
        (torch.Size([]), torch.Size([2]))
    """

    config_class = PriorConfig
    not_compiled = ("summed_cross_entropy",)
    """Not compiled, because its number of chunks depends on the batch."""
    config: PriorConfig
    body: PreTrainedModel
    vocabulary: Any

    def __init__(self, config: PriorConfig) -> None:
        if config.levels_by == "depth" and type(self) is Prior:
            raise ValueError(
                "levels_by='depth' is of another class: use DepthPrior(config), or load_prior(folder)"
            )
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

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """As torch does it, but frequencies of rotary embeddings keep their precision: rounded, far places would move."""
        rotary: list[Any] = [each for each in self.modules() if hasattr(each, "inv_freq")]
        exact = [each.inv_freq for each in rotary]
        super()._apply(fn, recurse)
        for each, before in zip(rotary, exact, strict=True):
            if not before.is_meta:
                each.inv_freq = before.to(each.inv_freq.device)
        return self

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
        """-log p(codes | condition) of each sequence, its end included.

        Raises ValueError for sequences that are longer than the places that this prior has learned.
        """
        config = self.config
        places = max(config.length, config.longest)
        if codes.shape[1] > places and (config.order != "raster" or config.style == "gpt2"):
            raise ValueError(
                f"a sequence has {codes.shape[1]} codes, and this prior has places for {places}: train it with a larger "
                "max_codes"
            )
        return self.losses(*self.states_and_targets(conditions, codes, order)).sum(1)

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

    def losses(
        self, hidden: Float[Tensor, "b m *levels w"], targets: Int[Tensor, "b t"]
    ) -> Float[Tensor, "b t"]:
        """The terms of `summed`, without gradient."""
        return self.cross_entropies(hidden.flatten(0, 1), targets.flatten()).view(targets.shape)

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
        inputs = self.add_order_embeddings(inputs, order, codes.shape[1])
        out = self.body(inputs_embeds=self.dropout(inputs), use_cache=False).last_hidden_state
        return out[:, prefix.shape[1] - 1 :]

    def add_order_embeddings(
        self, inputs: Float[Tensor, "b m w"], order: Places, last: int
    ) -> Float[Tensor, "b m w"]:
        """The inputs plus the embeddings of their places and of the places predicted from them, where the prior has such.

        `last` is the index, in `order`, of the code that the last input predicts.
        """
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
        """The summed cross-entropy of targets that are not IGNORED, in float32; `level` if each level has a head."""
        states, weight, bias = self.vocabulary.linear(hidden, *level)
        return linear_cross_entropy(states, weight, bias, targets, IGNORED)

    def cross_entropies(
        self, hidden: Float[Tensor, "n w"], targets: Int[Tensor, " n"], *level: int
    ) -> Float[Tensor, " n"]:
        """The terms of `summed_cross_entropy`, without gradient."""
        states, weight, bias = self.vocabulary.linear(hidden, *level)
        return linear_cross_entropies(states, weight, bias, targets, IGNORED)

    def conditions(
        self,
        count: int,
        *,
        labels: Sequence[int] | Integer[Tensor, " b"] | None = None,
        speakers: Sequence[int] | Integer[Tensor, " b"] | None = None,
        texts: Sequence[str] | None = None,
    ) -> Int[Tensor, "b p"]:
        """The conditions of `count` items, as entries of condition_embedding; none where all parts are left out.

        Raises ValueError for values that this prior does not know, and if only one of two parts is given: training
        withholds both or neither.
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
        if {given[name] is None for name in config.parts} == {True, False}:
            raise ValueError(
                f"this prior learned {' and '.join(config.parts)} together: give both, or neither"
            )
        if texts is not None:
            characters, padding = config.characters, config.no_condition
            return torch.stack([spelled(text.lower(), characters, padding) for text in texts])
        entries = torch.tensor(config.no_condition).repeat(count, 1)
        for place, (name, size) in enumerate(config.parts.items()):
            if given[name] is not None:
                start = config.no_condition[place] - size
                entries[:, place] = start + as_numbers(name, given[name], size)
        return entries


def as_numbers(name: str, given: Any, size: int) -> Int[Tensor, " b"]:
    """Labels or speakers as a tensor. Raises ValueError for what are no whole numbers from 0 to size - 1."""
    numbers = torch.as_tensor(given).cpu()
    if numbers.ndim != 1 or numbers.is_floating_point():
        raise ValueError(f"{name}s must be one whole number for each sample, and are {given!r}")
    outside = numbers[(numbers < 0) | (numbers >= size)].tolist()
    if outside:
        raise ValueError(
            f"{name} {outside[0]}: this prior has {size} {name}s, counted from 0; leave {name}s out for none"
        )
    return numbers.long()
