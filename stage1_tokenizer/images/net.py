"""The authors' convolutional encoder and decoder for images (SimVQ's `improved_model`, arXiv 2411.02038)."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32
"""Of every GroupNorm: channel counts must be multiples of it."""


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Twice norm, swish, 3 x 3 convolution, beside an identity or a 1 x 1 convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        same = channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class Level(nn.Module):
    """The residual blocks of one resolution, and the convolution to the next one."""

    def __init__(self, channels: int, out_channels: int, blocks: int, resample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(ResBlock(channels if i == 0 else out_channels, out_channels) for i in range(blocks))
        )
        self.resample = resample

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h2 w2"]:
        return self.resample(self.blocks(x))


class Upsample(nn.Module):
    """A 3 x 3 convolution to four times the channels, which then become 2 x 2 pixels, block index first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return rearrange(self.conv(x), "b (p q c) h w -> b c (h p) (w q)", p=2, q=2)


class Encoder(nn.Module):
    """Pixels to latents at 1 / 2**(levels - 1) of the resolution."""

    def __init__(
        self, in_channels: int, width: int, multipliers: tuple[int, ...], blocks: int, code_dim: int
    ) -> None:
        super().__init__()
        widths = [width * m for m in multipliers]
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.levels = nn.ModuleList()
        for i, (before, now) in enumerate(zip([width, *widths], widths, strict=False)):
            last = i == len(widths) - 1
            down = nn.Identity() if last else nn.Conv2d(now, now, 3, stride=2, padding=1)
            self.levels.append(Level(before, now, blocks, down))
        self.mid = nn.Sequential(*(ResBlock(widths[-1], widths[-1]) for _ in range(blocks)))
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], code_dim, 1)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        x = self.conv_in(images)
        for level in self.levels:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents to pixels. `levels` is indexed from the finest, as in the encoder, and run backwards."""

    def __init__(
        self,
        out_channels: int,
        width: int,
        multipliers: tuple[int, ...],
        blocks: int,
        code_dim: int,
    ) -> None:
        super().__init__()
        widths = [width * m for m in multipliers]
        self.conv_in = nn.Conv2d(code_dim, widths[-1], 3, padding=1)
        self.mid = nn.Sequential(*(ResBlock(widths[-1], widths[-1]) for _ in range(blocks)))
        self.levels = nn.ModuleList()
        for i, (now, before) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True)):
            up = nn.Identity() if i == 0 else Upsample(now)
            self.levels.append(Level(before, now, blocks, up))
        self.norm_out = norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, latents: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c y x"]:
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.levels):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))
