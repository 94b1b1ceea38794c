"""Images as bytes and files: one rounding rule and fixed ranges."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from common.files import replaced_file

ROUNDING = "round((x + 1) * 127.5), clipped to 0..255"
"""How [-1, 1] becomes bytes, everywhere in the project."""


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


def save_pil(image: Image.Image, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    with replaced_file(path) as partial:
        image.save(partial, format="PNG")


def save_grid(lines: Sequence[Float[Tensor, "b c y x"]], path: Path, scale_to: int = 64) -> None:
    """Writes batches of images under each other, in a fixed range, small ones enlarged by whole pixels."""
    images = to_uint8(torch.cat(list(lines)).cpu())
    factor = max(scale_to // images.shape[-1], 1)
    images = images.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    save_pil(to_pil(make_grid(images, nrow=len(lines[0]), padding=2, pad_value=255)), path)
