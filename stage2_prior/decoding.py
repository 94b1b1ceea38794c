"""Bodies: the transformers of a prior, and their versions with a KV cache, for sampling one code after the other."""

from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3Model,
)
from transformers.cache_utils import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SIZES = {
    "1m": (5, 128, 4, 2),
    "3m": (7, 192, 6, 2),
    "10m": (8, 320, 5, 3),
    "30m": (10, 512, 8, 3),
    "85m": (12, 768, 12, 4),
    "300m": (24, 1024, 16, 4),
    "700m": (36, 1280, 20, 6),
}
"""Layers, width and heads of the body, and layers of the small transformer that `DepthPrior` has beside it (the paper
has 4 beside 12 or 24); named by the parameters of the body. With learned vectors for 16,384 codes `85m` has the
111 M of LlamaGen-B, `300m` is its L and `700m` its XL."""
CAUSAL = "simvq_causal"
AttentionInterface.register(CAUSAL, sdpa_attention_forward)
"""PyTorch's attention, each input seeing those before it, which is all that a prior needs."""
Size = Literal["1m", "3m", "10m", "30m", "85m", "300m", "700m"]
Style = Literal["llama", "qwen3", "gpt2"]


def new_body(
    size: Size, style: Style, positions: int, dropout: float, layers: int | None = None
) -> PreTrainedModel:
    """A stock transformer of transformers for inputs that are vectors; it has the layers of its size unless given."""
    own_layers, width, heads, _ = SIZES[size]
    body: PreTrainedModel
    if style == "gpt2":
        gpt2 = GPT2Config(
            vocab_size=1,
            n_positions=positions,
            n_embd=width,
            n_layer=layers or own_layers,
            n_head=heads,
            resid_pdrop=dropout,
            embd_pdrop=0.0,
            attn_pdrop=dropout,
            bos_token_id=None,
            eos_token_id=None,
        )
        body = GPT2Model(gpt2)
    else:
        keys: dict[str, Any] = {
            "vocab_size": 1,
            "max_position_embeddings": positions,
            "hidden_size": width,
            "intermediate_size": -(-8 * width // 3 // 64) * 64,
            "num_hidden_layers": layers or own_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": width // heads,
            "attention_dropout": dropout,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        body = (
            LlamaModel(LlamaConfig(**keys)) if style == "llama" else Qwen3Model(Qwen3Config(**keys))
        )
        # without a mask, which transformers would look for in the inputs, and a GPU wait for
        body.config._attn_implementation = CAUSAL
    body.set_input_embeddings(nn.Identity())
    return body


@runtime_checkable
class CachedBody(Protocol):
    """A transformer that remembers the inputs that it has seen."""

    def __call__(self, inputs: Float[Tensor, "b n w"]) -> Float[Tensor, "b w"]:
        """The state after the last of `inputs`, which follow those of earlier calls."""
        ...

    def restart(self) -> None:
        """Forgets all inputs."""
        ...


def cached(body: PreTrainedModel, batch_size: int) -> CachedBody:
    """The fastest cached body there is for this transformer."""
    if isinstance(body, LlamaModel | Qwen3Model):
        return LlamaBody(body, batch_size)
    return StockBody(body)


class StockBody:
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


class LlamaBody:
    """Llama's or Qwen 3's layers with a preallocated KV cache: the computation of `StockBody`, with less work per step.

    The sines and cosines of the rotary embedding are computed once; a single input needs no mask.
    """

    def __init__(self, body: LlamaModel | Qwen3Model, batch_size: int) -> None:
        config = body.config
        self.body: Any = body
        self.restart()
        self.heads, positions = config.num_attention_heads, config.max_position_embeddings
        self.normed = isinstance(body, Qwen3Model)
        weight = body.norm.weight
        size = config.hidden_size // self.heads
        shape = (len(body.layers), 2, batch_size, self.heads, positions, size)
        self.past = torch.empty(shape, dtype=weight.dtype, device=weight.device)
        places = torch.arange(positions, device=weight.device)[None]
        cosines, sines = self.body.rotary_emb(weight, places)
        # `attend` swaps the halves without negating one: the sines carry the sign instead.
        first, second = sines.chunk(2, -1)
        self.cosines, self.sines = cosines, torch.cat([-first, second], -1)

    def restart(self) -> None:
        """Forgets all inputs; the memory for them stays."""
        self.filled = 0

    def __call__(self, inputs: Float[Tensor, "b n w"]) -> Float[Tensor, "b w"]:
        """The state after the last input; several inputs at once can only be the first ones."""
        here = slice(self.filled, self.filled + inputs.shape[1])
        self.filled = here.stop
        rotation = self.cosines[:, None, here], self.sines[:, None, here]
        hidden = inputs
        for layer, past in zip(self.body.layers, self.past, strict=True):
            attended = self.attend(
                layer.self_attn, layer.input_layernorm(hidden), past, here, rotation
            )
            hidden = hidden + attended
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.body.norm(hidden[:, -1])

    def attend(
        self,
        attention: Any,
        hidden: Tensor,
        past: Tensor,
        here: slice,
        rotation: tuple[Tensor, Tensor],
    ) -> Float[Tensor, "b n w"]:
        """What a layer's attention adds; the inputs' keys and values go into `past`."""
        both = torch.cat([attention.q_proj(hidden), attention.k_proj(hidden)], -1)
        both = both.unflatten(-1, (2 * self.heads, -1))
        if self.normed:
            queries, keys = both.chunk(2, 2)
            both = torch.cat([attention.q_norm(queries), attention.k_norm(keys)], 2)
        both = both.transpose(1, 2)
        left, right = both.chunk(2, -1)
        cosines, sines = rotation
        both = both * cosines + torch.cat([right, left], -1) * sines
        queries, keys = both.chunk(2, 1)
        past[0, :, :, here] = keys
        values = attention.v_proj(hidden).unflatten(-1, (self.heads, -1))
        past[1, :, :, here] = values.transpose(1, 2)
        all_keys, all_values = past[:, :, :, : here.stop]
        out = F.scaled_dot_product_attention(
            queries, all_keys, all_values, is_causal=hidden.shape[1] > 1, scale=attention.scaling
        )
        return attention.o_proj(out.transpose(1, 2).flatten(2))


class DepthBody:
    """The two bodies of a DepthPrior as one: one over positions and, at each position, a small one over its codes."""

    def __init__(self, positions: CachedBody, codes: CachedBody, levels: int) -> None:
        self.positions, self.codes, self.levels = positions, codes, levels
        self.level = 0

    def restart(self) -> None:
        """Forgets all inputs."""
        self.positions.restart()
        self.level = 0

    def __call__(self, inputs: Float[Tensor, "b n w"]) -> Float[Tensor, "b w"]:
        """The state from which the next code is predicted; at a position's first code, `inputs` pass both bodies."""
        if self.level == 0:
            inputs = self.positions(inputs)[:, None]
            self.codes.restart()
        self.level = (self.level + 1) % self.levels
        return self.codes(inputs)
