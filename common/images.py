"""Images as bytes and files: one rounding rule and fixed ranges."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from common.files import replaced_file

ROUNDING = "round((x + 1) * 127.5), clipped to 0..255"
"""How [-1, 1] becomes bytes, everywhere in the project."""
ENLARGED_UP_TO = 64
"""Width in pixels up to which small images of a grid are enlarged, by whole factors: 28 becomes 56."""


def to_uint8(images: Float[Tensor, "*b c y x"]) -> UInt8[Tensor, "*b c y x"]:
    """[-1, 1] to bytes, rounded to the nearest and clipped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(images: UInt8[Tensor, "*b c y x"]) -> Float[Tensor, "*b c y x"]:
    """Bytes to [-1, 1]."""
    return images.float() / 127.5 - 1


def to_pil(image: UInt8[Tensor, "c y x"]) -> Image.Image:
    """One image of 1 or 3 channels as a PIL image."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(image: Image.Image) -> bytes:
    """An image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def save_pil(image: Image.Image, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    with replaced_file(path) as partial:
        partial.write_bytes(png(image))


def enlarged(images: Shaped[Tensor, "*b y x"], factor: int) -> Shaped[Tensor, "*b v u"]:
    """Images or masks, each pixel made a square of `factor` pixels a side."""
    return images.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def grid(lines: Sequence[UInt8[Tensor, "b c y x"]]) -> Image.Image:
    """Batches of images under each other, small ones enlarged by whole pixels."""
    images = torch.cat(list(lines)).cpu()
    factor = max(ENLARGED_UP_TO // images.shape[-1], 1)
    large = enlarged(images, factor)
    return to_pil(make_grid(large, nrow=len(lines[0]), padding=2, pad_value=255))


def save_grid(lines: Sequence[UInt8[Tensor, "b c y x"]], path: Path) -> None:
    """Writes the grid of batches of images as PNG."""
    save_pil(grid(lines), path)
