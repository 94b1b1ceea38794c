"""ImageTokenizer: images to grids of codes, and codes to images."""

from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import Count
from stage1_tokenizer.images.net import GROUPS, Decoder, Encoder
from stage1_tokenizer.images.preprocess import preprocess_images
from stage1_tokenizer.quantizers import (
    Quantized,
    QuantizerConfig,
    SimVQConfig,
    build_quantizer,
    check_codes,
    check_form,
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
    """A convolutional autoencoder with a quantizer in the middle. Images are in [-1, 1].

    >>> config = ImageTokenizerConfig(image_size=32, width=32, quantizer=SimVQConfig(code_dim=8))
    >>> tokenizer = ImageTokenizer(config).eval()  # or ImageTokenizer.from_pretrained("model")
    >>> codes = tokenizer.encode(torch.zeros(1, 3, 32, 32))
    >>> codes.shape, tokenizer.decode(codes).shape
    (torch.Size([1, 4, 4]), torch.Size([1, 3, 32, 32]))
    >>> image = torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()  # or a PIL image, or a path
    >>> tokenizer.encode(image).shape
    torch.Size([1, 4, 4])
    """

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

    @property
    def codes_shape(self) -> tuple[int, ...]:
        """Of an image's codes: height, width and, where a position has several, levels."""
        levels = self.quantizer.spec.levels
        return (*self.config.grid, *((levels,) if levels > 1 else ()))

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
    def encode(self, images: Any) -> Int[Tensor, "b h w *levels"]:
        """The codes of each image; if the quantizer has several codes per position, all of them.

        `images` is a float tensor (b, c, y, x) in [-1, 1], or anything that `preprocess` takes. Computes in
        float32, also under autocast; raises ValueError for weights in half precision.
        """
        if not (isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point()):
            images = self.preprocess(images)
        with self.exactly():
            latents = self.latents(images.to(self.dtype))
            return self.quantizer.encode(rearrange(latents, "b d h w -> b h w d"))

    def preprocess(
        self,
        images: Any,
        *,
        channels_first: bool | None = None,
        value_range: tuple[float, float] = (-1, 1),
    ) -> Float[Tensor, "b c y x"]:
        """Images in [-1, 1] on the tokenizer's device, of an image or a list of images.

        A PIL image or a file's path is made upright, its shorter side resized to `image_size` and the centre cut
        out, as in training. An array or a tensor, one image or a batch, keeps its size; it holds bytes (uint8) or
        floats in `value_range`. Its channels come last in an array and first in a tensor, unless
        `channels_first` says otherwise. Raises ValueError, in one sentence, for what does not fit.
        """
        size, channels = self.config.image_size, self.config.in_channels
        ready = preprocess_images(images, channels, size, channels_first, value_range)
        return ready.to(self.device)

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "b h w *levels"]) -> Float[Tensor, "b c y x"]:
        """The images that integers alone stand for.

        Their range is [-1, 1] but for a little overshoot, which `common.images.to_uint8` clips. Raises
        ValueError for what is no tensor of integers of this form, and for a code that is not in its alphabet.
        """
        codes = check_form(codes, self.quantizer.spec, "b", "h", "w")
        check_codes(codes, self.quantizer.spec)
        return self._decoded(codes)

    @torch.no_grad()
    def reconstruct(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """The images after encode and decode; if the quantizer has no codes, after encoder and decoder alone."""
        with self.exactly() if self.quantizer.spec.has_codes else self.in_float32():
            latents = self.latents(images.to(self.dtype))
        return self.rebuild(latents)

    @torch.no_grad()
    def rebuild(self, latents: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c y x"]:
        """The images that `reconstruct` gives, from the encoder's output."""
        if not self.quantizer.spec.has_codes:
            return self._quantized_and_decoded(latents)[0]
        return self._decoded(self.quantizer.encode(rearrange(latents, "b d h w -> b h w d")))

    def _decoded(self, codes: Int[Tensor, "b h w *levels"]) -> Float[Tensor, "b c y x"]:
        latents = rearrange(self.quantizer.lookup(codes), "b h w d -> b d h w")
        return self.decoder(latents.to(self.dtype))

    def _quantized_and_decoded(
        self, latents: Float[Tensor, "b d h w"]
    ) -> tuple[Float[Tensor, "b c y x"], Quantized]:
        quantized = self.quantizer(rearrange(latents, "b d h w -> b (h w) d"))
        grid = rearrange(quantized.latents, "b (h w) d -> b d h w", h=latents.shape[2])
        return self.decoder(grid.to(self.dtype)), quantized
