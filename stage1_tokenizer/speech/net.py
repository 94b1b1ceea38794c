"""The encoder for waveforms, EnCodec's SEANet (arXiv 2210.13438), and how lengths are kept.

The clips of a batch end at different places. Every layer that looks beyond one position takes
`lengths`, so that an item of a padded batch comes out as it does alone. `lengths=None` says that
all are full.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Lengths = Int[Tensor, " b"] | None


def inside(lengths: Int[Tensor, " b"], size: int) -> Bool[Tensor, "b n"]:
    """True at the first `lengths` of `size` positions."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def masked(x: Float[Tensor, "b c n"], lengths: Lengths) -> Float[Tensor, "b c n"]:
    """`x` with zeros from each item's end on."""
    if lengths is None:
        return x
    return x.masked_fill(~inside(lengths, x.shape[-1])[:, None], 0)


def reflect_pad(
    x: Float[Tensor, "b c n"], left: int, right: int, lengths: Lengths
) -> Float[Tensor, "b c m"]:
    """`x` mirrored at each item's own ends; where an item is too short to mirror, zeros."""
    if left == right == 0:
        return x
    size = x.shape[-1]
    x = masked(x, lengths)
    before = x[..., 1 : left + 1].flip(
        -1
    )  # the mode "reflect" would go through all of x one by one
    nothing = x.new_zeros(())
    missing = nothing.expand(*x.shape[:2], left - before.shape[-1])
    padded = torch.cat([missing, before, x, nothing.expand(*x.shape[:2], right)], dim=-1)
    if right == 0:
        return padded
    ends = x.new_full((len(x),), size, dtype=torch.int64) if lengths is None else lengths
    beyond = torch.arange(right, device=x.device)
    source = ends[:, None] - 2 - beyond
    mirrored = x.gather(2, _channels(source.clamp(min=0), x)) * (source >= 0)[:, None]
    return padded.scatter(2, _channels(left + ends[:, None] + beyond, x), mirrored)


def _channels(index: Int[Tensor, "b m"], x: Float[Tensor, "b c n"]) -> Int[Tensor, "b c m"]:
    return index[:, None].expand(-1, x.shape[1], -1)


def in_chunks(
    function: Callable[[Tensor, Lengths], Tensor],
    x: Float[Tensor, "b c m"],
    lengths: Lengths,
    *,
    chunk: int,
    context: int,
    size_in: int = 1,
    size_out: int = 1,
) -> Float[Tensor, "b ..."]:
    """`function(x, lengths)`, computed on pieces of `chunk` codes that overlap by `context`.

    `context` is on either side. A code is `size_in` positions of `x` and `size_out` of the result;
    lengths are in codes. Exact if the function sees no further than the context.
    """
    n = x.shape[-1] // size_in
    pieces = []
    for start in range(0, n, chunk):
        stop = min(start + chunk, n)
        first, last = max(start - context, 0), min(stop + context, n)
        ends = None if lengths is None else (lengths - first).clamp(0, last - first)
        piece = function(x[..., first * size_in : last * size_in], ends)
        pieces.append(piece[..., (start - first) * size_out : (stop - first) * size_out])
    return torch.cat(pieces, dim=-1)


class Conv(nn.Module):
    """A weight-normed convolution that gives one position per `stride`, its borders mirrored.

    Its init keeps the variance of its input and sets biases to zero. PyTorch's default passes on a third of
    the variance and adds biases that are louder than speech: after five such layers the latents depend on the
    position in the crop, not on the sound, and training may never recover.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, stride: int = 1, *, causal: bool
    ) -> None:
        super().__init__()
        conv = nn.Conv1d(channels, out_channels, kernel, stride)
        assert conv.bias is not None
        nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        nn.init.zeros_(conv.bias)
        self.conv = weight_norm(conv)
        self.right = 0 if causal else (kernel - stride) // 2
        self.left = kernel - stride - self.right

    def forward(self, x: Float[Tensor, "b c n"], lengths: Lengths) -> Float[Tensor, "b out m"]:
        return self.conv(reflect_pad(x, self.left, self.right, lengths))


class ResUnit(nn.Module):
    """Twice ELU and convolution, through half the channels, beside a 1 x 1 convolution."""

    def __init__(self, channels: int, causal: bool) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels // 2, 3, causal=causal)
        self.conv2 = Conv(channels // 2, channels, 1, causal=causal)
        self.skip = Conv(channels, channels, 1, causal=causal)

    def forward(self, x: Float[Tensor, "b c n"], lengths: Lengths) -> Float[Tensor, "b c n"]:
        h = self.conv1(F.elu(x), lengths)
        return self.skip(x, lengths) + self.conv2(F.elu(h), lengths)


class Level(nn.Module):
    """A residual unit, and a convolution to twice the channels at 1 / `stride` of the rate."""

    def __init__(self, channels: int, stride: int, causal: bool) -> None:
        super().__init__()
        self.res = ResUnit(channels, causal)
        self.down = Conv(channels, 2 * channels, 2 * stride, stride, causal=causal)

    def forward(self, x: Float[Tensor, "b c n"], lengths: Lengths) -> Float[Tensor, "b out m"]:
        return self.down(F.elu(self.res(x, lengths)), lengths)


class Encoder(nn.Module):
    """Waveforms to latents, one per product of `ratios` samples.

    `ratios` is in the order of EnCodec's decoder; the encoder goes through it backwards.
    """

    def __init__(
        self, width: int, ratios: tuple[int, ...], lstm_layers: int, code_dim: int, causal: bool
    ) -> None:
        super().__init__()
        strides = ratios[::-1]
        self.rates = [math.prod(strides[:i]) for i in range(len(strides) + 1)]
        top = width * 2 ** len(strides)
        self.conv_in = Conv(1, width, 7, causal=causal)
        self.levels = nn.ModuleList(
            Level(width * 2**i, stride, causal) for i, stride in enumerate(strides)
        )
        self.lstm = nn.LSTM(top, top, lstm_layers, batch_first=True)
        self.conv_out = Conv(top, code_dim, 7, causal=causal)

    @property
    def hop(self) -> int:
        """Samples per latent."""
        return self.rates[-1]

    @property
    def context(self) -> int:
        """Latents on either side that the convolutions before the LSTM can see, rounded up."""
        seen = 6 + sum(2 * rate + 2 * below for rate, below in pairwise(self.rates))
        return -(-seen // self.hop)

    def forward(
        self, waveform: Float[Tensor, "b t"], lengths: Lengths, chunk: int | None = None
    ) -> Float[Tensor, "b d n"]:
        """Latents; t is a multiple of the hop, `lengths` is in latents.

        With `chunk` the convolutions before the LSTM process that many latents' samples at a time. The LSTM
        reads all latents at once: its context is unlimited, and one vector per latent takes little memory.
        """
        x = in_chunks(
            self._convolutions,
            waveform[:, None],
            lengths,
            chunk=chunk or waveform.shape[1],
            context=self.context,
            size_in=self.hop,
        )
        h, _ = self.lstm(rearrange(x, "b c n -> b n c"))
        return self.conv_out(F.elu(x + rearrange(h, "b n c -> b c n")), lengths)

    def _convolutions(self, x: Float[Tensor, "b 1 t"], lengths: Lengths) -> Float[Tensor, "b c n"]:
        def at(rate: int) -> Lengths:
            return None if lengths is None else lengths * (self.hop // rate)

        x = self.conv_in(x, at(1))
        for rate, level in zip(self.rates, self.levels, strict=False):
            x = level(x, at(rate))
        return x
