"""ImageTokenizer: images to grids of codes, and codes to images."""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import Count
from stage1_tokenizer.images.net import GROUPS, Decoder, Encoder
from stage1_tokenizer.quantizers import (
    Quantized,
    QuantizerConfig,
    SimVQConfig,
    build_quantizer,
    check_codes,
)
from stage1_tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    image_size: Count = 128
    """Side of the square images it is trained on, in pixels; it takes other sizes too."""
    in_channels: Count = 3
    """3 for colour, 1 for grey."""
    width: Count = 128
    """Channels at full resolution, a multiple of 32."""
    multipliers: tuple[Count, ...] = (1, 2, 2, 4)
    """Channels of each level, in units of `width`; each level after the first halves the resolution."""
    blocks_per_level: Count = 2
    """Residual blocks at each level, and in the middle."""
    quantizer: QuantizerConfig = field(default_factory=SimVQConfig)
    """The codebook: the keys of the quantizer that `quantizer.method` names."""

    def __post_init__(self) -> None:
        if not self.multipliers:
            raise ValueError("multipliers=() must have at least one level: set model.multipliers")
        if self.width % GROUPS:
            raise ValueError(f"width={self.width} must be a multiple of {GROUPS}: set model.width")
        if self.image_size % self.factor:
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of {self.factor}, which "
                f"{len(self.multipliers)} levels need: set model.image_size or model.multipliers"
            )
        if self.in_channels not in (1, 3):
            raise ValueError(
                f"in_channels={self.in_channels} must be 1 or 3: set model.in_channels"
            )

    @property
    def factor(self) -> int:
        """Pixels along one side of the square that one code stands for."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width in codes of an image of `image_size`."""
        side = self.image_size // self.factor
        return side, side


class ImageTokenizer(Tokenizer):
    """A convolutional autoencoder with a quantizer in the middle. Images are in [-1, 1]."""

    config_class = ImageTokenizerConfig
    config: ImageTokenizerConfig

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__(config)
        shape = config.width, config.multipliers, config.blocks_per_level, config.quantizer.code_dim
        self.encoder = Encoder(config.in_channels, *shape)
        self.quantizer = build_quantizer(config.quantizer)
        self.decoder = Decoder(config.in_channels, *shape)

    def forward(
        self, images: Float[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b c y x"], Quantized]:
        """The reconstruction, and the quantizer's output with positions in raster order."""
        return self._quantized_and_decoded(self.latents(images))

    def latents(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d h w"]:
        """The encoder's output, before quantization. Raises ValueError for a size it can't divide."""
        channels, height, width = images.shape[1:]
        factor = self.config.factor
        if channels != self.config.in_channels or height % factor or width % factor:
            raise ValueError(
                f"images of {channels} x {height} x {width} (channels, height, width): this tokenizer takes "
                f"{self.config.in_channels} channels and sides that are multiples of {factor}"
            )
        return self.encoder(images)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "b c y x"]) -> Int[Tensor, "b h w *levels"]:
        """The codes of each image; of a quantizer with several codes per position, all of them."""
        return self.quantizer.encode(rearrange(self.latents(images), "b d h w -> b h w d"))

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b h w *levels"]) -> Float[Tensor, "b c y x"]:
        """The images that integers alone stand for.

        Their range is [-1, 1] but for a little overshoot, which `common.images.to_uint8` clips. Raises
        ValueError for a code that is not in its alphabet.
        """
        check_codes(codes, self.quantizer.spec)
        latents = rearrange(self.quantizer.lookup(codes), "b h w d -> b d h w")
        return self.decoder(latents.to(self.decoder.conv_in.weight.dtype))

    @torch.no_grad()
    def reconstruct(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """The images after encode and decode; without a quantizer that has codes, after the networks."""
        return self.rebuild(self.latents(images))

    @torch.no_grad()
    def rebuild(self, latents: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c y x"]:
        """The images that `reconstruct` gives, from the encoder's output."""
        if not self.quantizer.spec.has_codes:
            return self._quantized_and_decoded(latents)[0]
        return self.decode(self.quantizer.encode(rearrange(latents, "b d h w -> b h w d")))

    def _quantized_and_decoded(
        self, latents: Float[Tensor, "b d h w"]
    ) -> tuple[Float[Tensor, "b c y x"], Quantized]:
        quantized = self.quantizer(rearrange(latents, "b d h w -> b (h w) d"))
        grid = rearrange(quantized.latents, "b (h w) d -> b d h w", h=latents.shape[2])
        return self.decoder(grid), quantized
