"""The decoder for speech: Vocos (arXiv 2306.00814) with WavTokenizer's attention.

Frames are masked by `lengths` throughout: what lies beyond an item's end is zero for every layer
that looks beyond one frame, as it is when the item is alone.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from stage1_tokenizer.speech.net import Lengths, in_chunks, inside, masked

GROUPS = 32
"""Of every GroupNorm: the decoder's width must be a multiple of it."""
DROPOUT = 0.1
KERNEL = 7


class GroupNorm(nn.Module):
    """GroupNorm over each item's own frames, in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Float[Tensor, "b c n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c n"]:
        with torch.autocast(x.device.type, enabled=False):
            groups = rearrange(masked(x.float(), lengths), "b (g c) n -> b g c n", g=GROUPS)
            count = (lengths * groups.shape[2])[:, None, None, None]
            mean = reduce(groups, "b g c n -> b g 1 1", "sum") / count
            centred = (groups - mean) * inside(lengths, x.shape[-1])[:, None, None]
            variance = reduce(centred.square(), "b g c n -> b g 1 1", "sum") / count
            normed = rearrange(centred * (variance + 1e-6).rsqrt(), "b g c n -> b (g c) n")
            out = normed * self.weight[:, None] + self.bias[:, None]
        return out.to(self.weight.dtype)


class ResBlock(nn.Module):
    """Twice norm, swish, convolution of 3 frames, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(channels)
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.norm2 = GroupNorm(channels)
        self.dropout = nn.Dropout(DROPOUT)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c n"]:
        h = self.conv1(masked(F.silu(self.norm1(x, lengths)), lengths))
        h = self.dropout(F.silu(self.norm2(h, lengths)))
        return x + self.conv2(masked(h, lengths))


class Attention(nn.Module):
    """One head over all frames of an item, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels)
        self.q = nn.Conv1d(channels, channels, 1)
        self.k = nn.Conv1d(channels, channels, 1)
        self.v = nn.Conv1d(channels, channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(
        self, x: Float[Tensor, "b c n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c n"]:
        h = self.norm(x, lengths)
        q, k, v = (rearrange(f(h), "b c n -> b 1 n c") for f in (self.q, self.k, self.v))
        keys = rearrange(inside(lengths, x.shape[-1]), "b n -> b 1 1 n")
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return x + self.proj_out(rearrange(h, "b 1 n c -> b c n"))


class PositionNet(nn.Module):
    """Residual blocks around self-attention: the part that sees a whole clip of up to `window` frames.

    A longer clip is seen through windows that overlap by half and are cross-faded, so that memory and the
    length that attention sees stay bounded.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            [
                *(ResBlock(channels) for _ in range(2)),
                Attention(channels),
                *(ResBlock(channels) for _ in range(2)),
                GroupNorm(channels),
            ]
        )

    def forward(
        self, x: Float[Tensor, "b c n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c n"]:
        if x.shape[-1] <= self.window:
            return self._once(x, lengths)
        half = self.window // 2
        total = torch.zeros_like(x, dtype=torch.float32)
        weights = torch.zeros_like(total[:, :1])
        for start in range(0, x.shape[-1] - half, half):
            part = slice(start, start + self.window)
            ends = (lengths - start).clamp(1, x[..., part].shape[-1])
            # An item that ended within the window before this one is complete without it.
            needed = (lengths - start > half) | (start == 0)
            last = lengths - start <= self.window
            weight = _fade(ends, last, x[..., part].shape[-1], half, start == 0) * needed[:, None]
            total[..., part] += self._once(x[..., part], ends) * weight[:, None]
            weights[..., part] += weight[:, None]
        return (total / weights.clamp_min(1e-6)).to(next(self.parameters()).dtype)

    def _once(
        self, x: Float[Tensor, "b c n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c n"]:
        for block in self.blocks:
            x = block(x, lengths)
        return x


def _fade(
    ends: Int[Tensor, " b"], last: Tensor, size: int, half: int, first: bool
) -> Float[Tensor, "b n"]:
    """The weight of each frame of a window: rising, then falling, but not at an item's ends."""
    place = torch.arange(size, device=ends.device)
    rise = (
        torch.ones(size, device=ends.device) if first else ((place + 1) / (half + 1)).clamp(max=1)
    )
    fall = ((2 * half - place) / (half + 1)).clamp(0, 1)
    return torch.where(last[:, None], rise, rise * fall) * (place < ends[:, None])


class ConvNeXt(nn.Module):
    """A depthwise convolution and a two-layer perceptron, scaled, beside the identity."""

    def __init__(self, channels: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, hidden)
        self.pwconv2 = nn.Linear(hidden, channels)
        self.gamma = nn.Parameter(torch.full((channels,), scale))

    def forward(
        self, x: Float[Tensor, "b c n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c n"]:
        h = self.norm(rearrange(self.dwconv(masked(x, lengths)), "b c n -> b n c"))
        h = self.gamma * self.pwconv2(F.gelu(self.pwconv1(h)))
        return x + rearrange(h, "b n c -> b c n")


class Backbone(nn.Module):
    """Latents to features, frame by frame."""

    def __init__(self, code_dim: int, width: int, hidden: int, layers: int, window: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(code_dim, width, KERNEL, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNeXt(width, hidden, 1 / layers) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(width, eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.pos_net = PositionNet(width, window)  # keeps torch's init, as the authors' does

    @property
    def context(self) -> int:
        """Frames on either side that the layers after the attention can see."""
        return len(self.convnext) * (KERNEL // 2)

    def positions(
        self, latents: Float[Tensor, "b d n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c n"]:
        """Features with the attention behind them, and the local layers still to come."""
        return self.pos_net(self.embed(masked(latents, lengths)), lengths)

    def local(
        self, x: Float[Tensor, "b c n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b n c"]:
        """Features of the layers that see `context` frames."""
        x = rearrange(self.norm(rearrange(x, "b c n -> b n c")), "b n c -> b c n")
        for block in self.convnext:
            x = block(x, lengths)
        return self.final_layer_norm(rearrange(x, "b c n -> b n c"))


class ISTFTHead(nn.Module):
    """Features to samples by an inverse STFT, in float32 under any autocast."""

    window: Tensor

    def __init__(self, width: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.out = nn.Linear(width, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(
        self, features: Float[Tensor, "b n c"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t"]:
        with torch.autocast(features.device.type, enabled=False):
            window = self.window.float()
            spectra = self.out(features.to(self.window.dtype)).float().mT
            log_magnitude, phase = spectra.chunk(2, dim=1)
            # Both clamps: exp(100) is infinite, and infinite times cos(phase) has no gradient.
            magnitude = log_magnitude.clamp(max=80).exp().clamp(max=100)
            spectrum = torch.polar(magnitude, phase)
            frames = torch.fft.irfft(spectrum, dim=1) * window[:, None]
            weights = repeat(window.square(), "k -> b k n", b=len(frames), n=frames.shape[2])
            summed = self._overlap_add(masked(frames, lengths))
            envelope = self._overlap_add(masked(weights, lengths))
            valid = inside(lengths * self.hop, summed.shape[1])
            return torch.where(valid, summed / envelope.clamp_min(1e-11), 0)

    def _overlap_add(self, frames: Float[Tensor, "b k n"]) -> Float[Tensor, "b t"]:
        """The sum of the shifted frames, without what sticks out at both ends."""
        size, n = frames.shape[1:]
        total = (n - 1) * self.hop + size
        folded = F.fold(frames, (1, total), (1, size), stride=(1, self.hop))
        trim = (size - self.hop) // 2
        return folded[:, 0, 0, trim : trim + n * self.hop]


class Decoder(nn.Module):
    """Latents to waveforms."""

    def __init__(
        self, code_dim: int, width: int, hidden: int, layers: int, window: int, n_fft: int, hop: int
    ) -> None:
        super().__init__()
        self.overlap = n_fft // hop
        self.backbone = Backbone(code_dim, width, hidden, layers, window)
        self.head = ISTFTHead(width, n_fft, hop)

    def forward(
        self, latents: Float[Tensor, "b d n"], lengths: Lengths, chunk: int | None = None
    ) -> Float[Tensor, "b t"]:
        """Samples, hop x n of them, zero after each item's end; `lengths` is in latents.

        With `chunk` only so many frames are in work at a time after the attention.
        """
        n = latents.shape[-1]
        ends = (
            latents.new_full((len(latents),), n, dtype=torch.int64) if lengths is None else lengths
        )
        return in_chunks(
            self._samples,
            self.backbone.positions(latents, ends),
            ends,
            chunk=chunk or n,
            context=self.backbone.context + self.overlap,
            size_out=self.head.hop,
        )

    def _samples(self, x: Float[Tensor, "b c n"], lengths: Lengths) -> Float[Tensor, "b t"]:
        assert lengths is not None
        return self.head(self.backbone.local(x, lengths), lengths)
