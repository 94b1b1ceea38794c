"""The modules that export turns into graphs: what a tokenizer and a prior do, without checks, chunks and lengths."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage2_prior import Prior
from stage2_prior.depth import DepthPrior


class ImageEncoding(nn.Module):
    """Images in [-1, 1] to codes."""

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        super().__init__()
        self.encoder, self.quantizer = tokenizer.encoder, tokenizer.quantizer

    def forward(self, images: Float[Tensor, "b c y x"]) -> Int[Tensor, "b h w *levels"]:
        return self.quantizer.encode(rearrange(self.encoder(images), "b d h w -> b h w d"))


class ImageDecoding(nn.Module):
    """Codes to images in [-1, 1]."""

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        super().__init__()
        self.decoder, self.quantizer = tokenizer.decoder, tokenizer.quantizer

    def forward(self, codes: Int[Tensor, "b h w *levels"]) -> Float[Tensor, "b c y x"]:
        return self.decoder(rearrange(self.quantizer.lookup(codes), "b h w d -> b d h w"))


class SpeechEncoding(nn.Module):
    """Waveforms in [-1, 1], of whole hops, to codes."""

    def __init__(self, tokenizer: SpeechTokenizer) -> None:
        super().__init__()
        self.encoder, self.quantizer = tokenizer.encoder, tokenizer.quantizer

    def forward(self, waveform: Float[Tensor, "b t"]) -> Int[Tensor, "b n *levels"]:
        x = self.encoder._convolutions(waveform[:, None], None)
        h, _ = self.encoder.lstm(rearrange(x, "b c n -> b n c"))
        latents = self.encoder.conv_out(F.elu(x + rearrange(h, "b n c -> b c n")), None)
        return self.quantizer.encode(rearrange(latents, "b d n -> b n d"))


class SpeechDecoding(nn.Module):
    """Maps at most `decoder_window` codes to waveforms; the inverse STFT is a matrix: ONNX has no complex numbers."""

    basis: Tensor

    def __init__(self, tokenizer: SpeechTokenizer) -> None:
        super().__init__()
        self.decoder, self.quantizer = tokenizer.decoder, tokenizer.quantizer
        head = tokenizer.decoder.head
        size = len(head.window)
        real = torch.fft.irfft(torch.eye(size // 2 + 1, dtype=torch.complex128), n=size)
        imaginary = torch.fft.irfft(1j * torch.eye(size // 2 + 1, dtype=torch.complex128), n=size)
        basis = torch.cat([real, imaginary]) * head.window.double()
        self.register_buffer("basis", basis.float())
        self.hop, self.frames = head.hop, size // head.hop

    def forward(self, codes: Int[Tensor, "b n *levels"]) -> Float[Tensor, "b t"]:
        latents = rearrange(self.quantizer.lookup(codes), "b n d -> b d n")
        count = latents.shape[-1]
        ends = torch.full_like(latents[:, 0, 0], count, dtype=torch.int64)
        backbone, head = self.decoder.backbone, self.decoder.head
        x = backbone.embed(latents)
        for block in backbone.pos_net.blocks:
            x = block(x, ends)
        log_magnitude, phase = head.out(backbone.local(x, ends)).chunk(2, dim=2)
        magnitude = log_magnitude.clamp(max=80).exp().clamp(max=100)
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=2)
        summed = self.overlapped(spectrum @ self.basis)
        envelope = self.overlapped(head.window.square().expand(1, count, -1))
        return summed / envelope.clamp_min(1e-11)

    def overlapped(self, frames: Float[Tensor, "b n k"]) -> Float[Tensor, "b t"]:
        """The sum of frames that are a hop apart, without what sticks out at both ends."""
        pieces = rearrange(frames, "b n (r s) -> r b n s", s=self.hop)
        last = self.frames - 1
        shifted = [F.pad(piece, (0, 0, i, last - i)) for i, piece in enumerate(pieces)]
        summed = torch.stack(shifted).sum(0)
        trim = (self.frames * self.hop - self.hop) // 2
        flat = rearrange(summed, "b n s -> b (n s)")
        return flat[:, trim : trim + frames.shape[1] * self.hop]


def first_entries(prior: Prior) -> list[int]:
    """The entry of a step's inputs that stands for code 0 of each level; those of the condition come first."""
    offsets = getattr(prior.vocabulary, "offsets", torch.zeros(1, dtype=torch.int64))
    return [len(prior.condition_embedding.weight) + offset for offset in offsets.tolist()]


@torch.no_grad()
def input_table(prior: Prior) -> Float[Tensor, "entries w"]:
    """The vectors of a step's inputs: the condition's, each level's codes, and zeros, which stand for no code."""
    condition, vocabulary = prior.condition_embedding.weight, prior.vocabulary
    if isinstance(prior, DepthPrior):
        codes = [prior.vocabulary.embedding.weight]
    else:
        sizes = enumerate(prior.config.level_sizes)
        codes = [vocabulary.embed(torch.arange(size)[:, None], at)[:, 0] for at, size in sizes]
    return torch.cat([condition, *codes, torch.zeros_like(condition[:1])])


@torch.no_grad()
def place_vectors(prior: Prior) -> Float[Tensor, "m w"] | None:
    """The order embeddings that are added to each input, in raster order; None for a prior without them."""
    if prior.order is None:
        return None
    config = prior.config
    places = config.longest // config.codes_per_input
    inputs = len(config.no_condition) + places - 1  # the last code is no input
    zeros = torch.zeros(1, inputs, prior.condition_embedding.embedding_dim)
    return prior.add_order_embeddings(zeros, None, (places - 1) * config.codes_per_input)[0]


class PriorStep(nn.Module):
    """Maps the next inputs and the cached keys and values to the logits of the next code and the updated cache.

    An input is the sum of table entries: one part of the condition or one code of a level (see `first_entries`), or
    all codes of a position for a DepthPrior. A DepthPrior returns the state for DepthStep in place of logits.
    """

    table: Tensor
    places: Tensor | None

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.body, self.vocabulary = deepcopy(prior.body), prior.vocabulary
        # a mask, since a graph takes any number of inputs after any number of earlier ones
        self.body.set_attn_implementation("sdpa")
        self.by_depth = isinstance(prior, DepthPrior)
        self.register_buffer("table", input_table(prior))
        self.register_buffer("places", place_vectors(prior))

    def empty_past(self, batch: int, places: int) -> Float[Tensor, "layers 2 b heads places size"]:
        """Zeros of the form of `past`, for so many earlier inputs."""
        config: Any = self.body.config
        heads = config.num_attention_heads
        return torch.zeros(
            config.num_hidden_layers, 2, batch, heads, places, config.hidden_size // heads
        )

    def forward(
        self,
        entries: Int[Tensor, "b n codes"],
        past: Float[Tensor, "layers 2 b heads m size"],
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "layers 2 b heads _ size"]]:
        inputs = self.table[entries].sum(2)
        if self.places is not None:
            inputs = inputs + self.places[past.shape[4] + torch.arange(entries.shape[1])]
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        out = self.body(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
        last = out.last_hidden_state[:, -1]
        result = last if self.by_depth else self.vocabulary.logits(last).float()
        layers: Any = cache.layers
        return result, torch.stack([torch.stack([each.keys, each.values]) for each in layers])


class DepthStep(nn.Module):
    """Maps a position's state and all its codes but the last to the logits of the code at each level.

    The logits of a level depend on the codes of earlier levels only, so codes not sampled yet may have any value.
    """

    table: Tensor

    def __init__(self, prior: DepthPrior) -> None:
        super().__init__()
        self.depth, self.vocabulary = prior.depth, prior.vocabulary
        self.levels = prior.config.levels
        self.register_buffer("table", input_table(prior))

    def forward(
        self, state: Float[Tensor, "b w"], entries: Int[Tensor, "b others"]
    ) -> Float[Tensor, "b levels k"]:
        inputs = torch.cat([state[:, None], self.table[entries].cumsum(1)], dim=1)
        hidden = self.depth(inputs_embeds=inputs, use_cache=False).last_hidden_state
        each = [self.vocabulary.logits(hidden[:, i], i) for i in range(self.levels)]
        return torch.stack(each, dim=1).float()
