"""Discriminators of waveforms: by period (HiFi-GAN), resolution (UnivNet), band (Descript)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from common.bounds import Count, Within

DiscriminatorOutput = tuple[Tensor, list[Tensor]]
"""Scores, one per patch, and the feature maps before them."""
DiscriminatorOutputs = dict[str, list[DiscriminatorOutput]]
"""Those of all discriminators, by kind: `period`, `resolution`, `band`."""
SLOPE = 0.1
BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Borders of the frequency bands, as shares of half the sample rate."""
PEAK_FLOOR = 1e-2
"""Least divisor of `normalise_peak`: a quieter waveform is amplified no further."""


@dataclass(frozen=True, kw_only=True)
class SpeechDiscriminatorConfig:
    """Which discriminators there are, and how wide. An empty tuple leaves a kind out."""

    periods: tuple[Count, ...] = (2, 3, 5, 7, 11)
    """Widths of the matrices into which the period discriminators fold a waveform."""
    period_width: Count = 32
    """Channels of the period discriminators' first layer; later ones have up to 32 times as many."""
    resolutions: tuple[Annotated[int, Within(4)], ...] = (1024, 2048, 512)
    """STFT windows of the resolution discriminators, which see magnitudes."""
    resolution_width: Count = 64
    """Channels of the resolution discriminators."""
    bands: tuple[Annotated[int, Within(18)], ...] = (2048, 1024, 512)
    """STFT windows of the band discriminators, which see five bands of complex values."""
    band_width: Count = 32
    """Channels of the band discriminators."""


class SpeechDiscriminator(nn.Module):
    """All discriminators of a config."""

    def __init__(self, config: SpeechDiscriminatorConfig) -> None:
        super().__init__()
        self.period = nn.ModuleList(
            PeriodDiscriminator(period, config.period_width) for period in config.periods
        )
        self.resolution = nn.ModuleList(
            ResolutionDiscriminator(n_fft, config.resolution_width) for n_fft in config.resolutions
        )
        self.band = nn.ModuleList(
            BandDiscriminator(n_fft, config.band_width) for n_fft in config.bands
        )

    def forward(self, waveform: Float[Tensor, "b t"]) -> DiscriminatorOutputs:
        kinds = {"period": self.period, "resolution": self.resolution, "band": self.band}
        return {name: [part(waveform) for part in parts] for name, parts in kinds.items() if parts}


class PeriodDiscriminator(nn.Module):
    """Scores a waveform that is folded into a matrix of width `period`."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, width, 4 * width, 16 * width, 32 * width, 32 * width)
        self.convs = nn.ModuleList(
            conv(widths[i], widths[i + 1], (5, 1), (3 if i < 4 else 1, 1)) for i in range(5)
        )
        self.last = conv(widths[-1], 1, (3, 1))

    def forward(self, waveform: Float[Tensor, "b t"]) -> DiscriminatorOutput:
        padded = F.pad(waveform, (0, -waveform.shape[1] % self.period))
        x = rearrange(padded, "b (n p) -> b 1 n p", p=self.period)
        scores, maps = _through(self.convs, self.last, x)
        return scores, maps[1:]  # the first map is too near the samples to be matched


class ResolutionDiscriminator(nn.Module):
    """Scores the magnitudes of an STFT."""

    window: Tensor

    def __init__(self, n_fft: int, width: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        shapes = (
            ((7, 5), (2, 2)),
            ((5, 3), (2, 1)),
            ((5, 3), (2, 2)),
            ((3, 3), (2, 1)),
            ((3, 3), (2, 2)),
        )
        self.convs = nn.ModuleList(
            conv(width if i else 1, width, kernel, stride)
            for i, (kernel, stride) in enumerate(shapes)
        )
        self.last = conv(width, 1, (3, 3))

    def forward(self, waveform: Float[Tensor, "b t"]) -> DiscriminatorOutput:
        magnitudes = stft(waveform, self.window).abs()
        return _through(self.convs, self.last, magnitudes[:, None])


class BandDiscriminator(nn.Module):
    """Scores the complex STFT of the peak-normalised waveform, with layers for each band."""

    window: Tensor

    def __init__(self, n_fft: int, width: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        borders = [int(share * (n_fft // 2 + 1)) for share in BANDS]
        self.sizes = [b - a for a, b in pairwise(borders)]
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                [
                    conv(2, width, (3, 9)),
                    *(conv(width, width, (3, 9), (1, 2)) for _ in range(3)),
                    conv(width, width, (3, 3)),
                ]
            )
            for _ in self.sizes
        )
        self.last = conv(width, 1, (3, 3))

    def forward(self, waveform: Float[Tensor, "b t"]) -> DiscriminatorOutput:
        spectrum = torch.view_as_real(stft(normalise_peak(waveform), self.window))
        maps, ends = [], []
        bands = rearrange(spectrum, "b f n c -> b c n f").split(self.sizes, dim=3)
        for stack, x in zip(self.stacks, bands, strict=True):
            for layer in cast(nn.ModuleList, stack):
                x = F.leaky_relu(layer(x), SLOPE)
                maps.append(x)
            ends.append(x)
        return self.last(torch.cat(ends, dim=3)), maps


def conv(
    channels: int, out_channels: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> nn.Module:
    """A weight-normed convolution that keeps the size, but for the stride."""
    padding = kernel[0] // 2, kernel[1] // 2
    return weight_norm(nn.Conv2d(channels, out_channels, kernel, stride, padding))


def stft(waveform: Float[Tensor, "b t"], window: Float[Tensor, " k"]) -> Tensor:
    """The complex spectrogram (b, k / 2 + 1, n), hop k / 4, in float32 under any autocast."""
    with torch.autocast(waveform.device.type, enabled=False):
        return torch.stft(
            waveform.float(),
            len(window),
            len(window) // 4,
            window=window,
            pad_mode="constant",  # a clip shorter than the window can't be mirrored
            return_complex=True,
        )


def normalise_peak(waveform: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The waveforms without their means, peaks at 0.8.

    The divisor has a floor: without it the gradient grows as 1 / amplitude, and silence breaks
    training.
    """
    centred = waveform.float() - waveform.float().mean(1, keepdim=True)
    return 0.8 * centred / centred.abs().amax(1, keepdim=True).clamp_min(PEAK_FLOOR)


def _through(layers: nn.ModuleList, last: nn.Module, x: Tensor) -> DiscriminatorOutput:
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        maps.append(x)
    return last(x), maps
