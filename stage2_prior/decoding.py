"""Decoders: the states of a prior's body one input after the other, the keys and values of earlier ones kept."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaModel, PreTrainedModel
from transformers.cache_utils import DynamicCache

Decoder = Any
"""Takes the inputs that follow those before; returns the state after the last: (b, n, w) -> (b, w).
`restart` forgets those before."""


def decoder(body: PreTrainedModel, rows: int) -> Decoder:
    """The fastest one for this body, with room for `rows` rows."""
    return LlamaDecoder(body, rows) if isinstance(body, LlamaModel) else StockDecoder(body)


def guided(states: Float[Tensor, "_ w"], scale: float | None) -> Float[Tensor, "b w"]:
    """u + scale (c - u), where c is the first half of the batch and u, without condition, the second; None: all.

    Logits are a linear map of states, so what is mixed here needs half of that map's work.
    """
    if scale is None:
        return states
    conditional, unconditional = states.chunk(2)
    return unconditional + scale * (conditional - unconditional)


class StockDecoder:
    """The body's own forward with its own cache: for any body, and what faster ones are held to."""

    def __init__(self, body: PreTrainedModel) -> None:
        self.body = body
        self.restart()

    def restart(self) -> None:
        """Forgets all inputs."""
        self.cache = DynamicCache(config=self.body.config)

    def __call__(self, inputs: Float[Tensor, "b n w"]) -> Float[Tensor, "b w"]:
        out = self.body(inputs_embeds=inputs, past_key_values=self.cache, use_cache=True)
        return out.last_hidden_state[:, -1]


class LlamaDecoder:
    """Llama's layers on the same numbers in the same order, without what each step would do anew.

    Keys and values stand in memory set aside once, rotations in a table; a step alone needs no mask.
    """

    def __init__(self, body: LlamaModel, rows: int) -> None:
        config = body.config
        self.body: Any = body
        self.restart()
        self.heads, positions = config.num_attention_heads, config.max_position_embeddings
        weight = body.norm.weight
        size = config.hidden_size // self.heads
        shape = (len(body.layers), 2, rows, self.heads, positions, size)
        self.past = torch.empty(shape, dtype=weight.dtype, device=weight.device)
        numbers = torch.arange(positions, device=weight.device)[None]
        cosines, sines = self.body.rotary_emb(weight, numbers)
        # Halves change places in `attend` without a sign, which the sines hold instead.
        first, second = sines.chunk(2, -1)
        self.cosines, self.sines = cosines, torch.cat([-first, second], -1)

    def restart(self) -> None:
        """Forgets all inputs; what they are kept in stays."""
        self.filled = 0

    def __call__(self, inputs: Float[Tensor, "b n w"]) -> Float[Tensor, "b w"]:
        """The state after the last input; several inputs at once can only be the first ones."""
        here = slice(self.filled, self.filled + inputs.shape[1])
        self.filled = here.stop
        turn = self.cosines[:, None, here], self.sines[:, None, here]
        hidden = inputs
        for layer, past in zip(self.body.layers, self.past, strict=True):
            attended = self.attend(layer.self_attn, layer.input_layernorm(hidden), past, here, turn)
            hidden = hidden + attended
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.body.norm(hidden[:, -1])

    def attend(
        self, attention: Any, hidden: Tensor, past: Tensor, here: slice, turn: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "b n w"]:
        """What a layer's attention adds; the inputs' keys and values go into `past`."""
        both = torch.cat([attention.q_proj(hidden), attention.k_proj(hidden)], -1)
        both = both.unflatten(-1, (2 * self.heads, -1)).transpose(1, 2)
        left, right = both.chunk(2, -1)
        cosines, sines = turn
        both = both * cosines + torch.cat([right, left], -1) * sines
        queries, keys = both.chunk(2, 1)
        past[0, :, :, here] = keys
        values = attention.v_proj(hidden).unflatten(-1, (self.heads, -1))
        past[1, :, :, here] = values.transpose(1, 2)
        known_keys, known_values = past[:, :, :, : here.stop]
        out = F.scaled_dot_product_attention(
            queries,
            known_keys,
            known_values,
            is_causal=hidden.shape[1] > 1,
            scale=attention.scaling,
        )
        return attention.o_proj(out.transpose(1, 2).flatten(2))
