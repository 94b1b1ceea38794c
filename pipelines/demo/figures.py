"""Images for the page: grids of samples, maps of codes, what of an image is kept."""

import colorsys

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.utils import make_grid

from common.images import enlarged, to_pil, to_uint8

SIDE = 256
"""Width, in pixels, up to which a single image is enlarged by a whole factor."""
GOLDEN = 0.618034
"""Step between the hues of successive codes, which keeps all hues apart."""
GREY = 0.5
"""Pixels without a code yet, in [-1, 1]."""


def large(pixels: UInt8[Tensor, "c y x"]) -> Image.Image:
    """One image enlarged by whole pixels, so that its width is about SIDE or what it was."""
    return to_pil(enlarged(pixels, max(SIDE // pixels.shape[-1], 1)))


def one(image: Float[Tensor, "c y x"]) -> Image.Image:
    """One image in [-1, 1]."""
    return large(to_uint8(image.cpu()))


def several(images: Float[Tensor, "b c y x"]) -> Image.Image:
    """Images in [-1, 1] in about as many rows as columns."""
    columns = int(np.ceil(np.sqrt(len(images))))
    factor = max(SIDE * 2 // (columns * images.shape[-1]), 1)
    pixels = enlarged(images, factor).cpu()
    return to_pil(to_uint8(make_grid(pixels, nrow=columns, padding=4, pad_value=1.0)))


def hidden(
    images: Float[Tensor, "b c y x"], there: Bool[Tensor, "b h w"]
) -> Float[Tensor, "b c y x"]:
    """The images, grey where there is no code."""
    factor = images.shape[-1] // there.shape[-1]
    pixels = enlarged(there, factor)[:, None]
    return torch.where(pixels.to(images.device), images, GREY)


def code_map(codes: Int[Tensor, "h w *levels"]) -> Image.Image:
    """A square of a colour for each code: the same code, the same colour; of several codes of a position the first."""
    first = codes if codes.ndim == 2 else codes[..., 0]
    colours = [
        [[round(255 * part) for part in colour(code)] for code in row] for row in first.tolist()
    ]
    return large(torch.tensor(colours, dtype=torch.uint8).movedim(-1, 0))


def colour(code: int) -> tuple[float, float, float]:
    """The colour that stands for a code."""
    return colorsys.hsv_to_rgb(code * GOLDEN % 1, 0.45 + 0.15 * (code % 3), 0.6 + 0.2 * (code % 2))


def kept(image: Float[Tensor, "c y x"], mask: Bool[Tensor, "h w"]) -> Image.Image:
    """The image with a line around each position; those that are not kept are crossed out in grey."""
    crossed = one(hidden(image[None], mask[None])[0]).convert("RGB")
    draw, step = ImageDraw.Draw(crossed), crossed.width // mask.shape[1]
    for y, row in enumerate(mask.tolist()):
        for x, keep in enumerate(row):
            box = (x * step, y * step, (x + 1) * step, (y + 1) * step)
            draw.rectangle(box, outline=(128, 128, 128))
            if not keep:
                draw.line((*box[:2], *box[2:]), fill=(90, 90, 90))
                draw.line((box[2], box[1], box[0], box[3]), fill=(90, 90, 90))
    return crossed
