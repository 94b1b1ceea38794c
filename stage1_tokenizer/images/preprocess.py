"""Images as people hold them, to what a tokenizer takes: PIL images, files, arrays of bytes or floats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from common.extras import named_extras


def preprocess_images(
    images: Any,
    channels: int,
    size: int,
    channels_first: bool | None,
    value_range: tuple[float, float],
) -> Float[Tensor, "b c y x"]:
    """What `ImageTokenizer.preprocess` says, on the CPU for all but tensors."""
    if isinstance(images, np.ndarray | Tensor):
        first = isinstance(images, Tensor) if channels_first is None else channels_first
        pixels = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
        return from_array(pixels, channels, first, value_range)
    if isinstance(images, Sequence) and not isinstance(images, str):
        if not images:
            raise ValueError("there are no images: give at least one")
        each = [
            preprocess_images(one, channels, size, channels_first, value_range) for one in images
        ]
        if len(shapes := {tuple(one.shape[1:]) for one in each}) > 1:
            raise ValueError(f"images of shapes {sorted(shapes)} are no batch: give one size alone")
        return torch.cat(each)
    return from_image(images, channels, size)[None]


def from_array(
    images: Shaped[Tensor, "..."],
    channels: int,
    channels_first: bool,
    value_range: tuple[float, float],
) -> Float[Tensor, "b c y x"]:
    """Bytes, or floats in `value_range`, to [-1, 1]. Raises ValueError for other types, shapes and values."""
    shape = tuple(images.shape)
    if images.ndim == 2:
        images = images[None] if channels_first else images[..., None]
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim != 4 or batch.shape[1 if channels_first else -1] != channels:
        form = "(b, c, y, x), (c, y, x)" if channels_first else "(b, y, x, c), (y, x, c)"
        raise ValueError(
            f"images of shape {shape} must have the shape {form} or (y, x) with c = {channels}: say "
            f"channels_first={not channels_first}, or give {'grey' if channels == 1 else 'colour'} images"
        )
    if not batch.numel():
        raise ValueError(f"images of shape {shape} hold no pixels: give at least one image")
    batch = batch if channels_first else batch.movedim(-1, 1)
    if batch.dtype == torch.uint8:
        return batch.float() / 127.5 - 1
    low, high = value_range
    if not batch.is_floating_point():
        raise ValueError(f"images of type {batch.dtype}: give bytes (uint8), or floats")
    if not (low <= float(batch.min()) and float(batch.max()) <= high):
        raise ValueError(
            f"images from {float(batch.min()):g} to {float(batch.max()):g} must lie in "
            f"value_range={value_range}: set value_range, to (0, 1) or (0, 255) for instance"
        )
    return batch.float() if (low, high) == (-1, 1) else (batch.float() - low) / (high - low) * 2 - 1


def from_image(image: Any, channels: int, size: int) -> Float[Tensor, "c y x"]:
    """A PIL image or a file, upright, its shorter side resized and the centre cut out, as in training."""
    with named_extras():
        from PIL import Image

        from stage1_tokenizer.images.data import upright, view
    if isinstance(image, str | Path):
        try:
            opened = Image.open(image)
            opened.load()
        except (FileNotFoundError, IsADirectoryError):
            raise ValueError(f"{image} is not a file") from None
        except Exception:  # of a damaged file Pillow raises any, by its format
            raise ValueError(f"{image} can't be read as an image") from None
        image = opened
    if not isinstance(image, Image.Image):
        raise ValueError(
            f"{type(image).__name__} is no image: give a PIL image, a path, an array or a tensor, or a list of these"
        )
    return view(upright(image, channels), size, "centre")
