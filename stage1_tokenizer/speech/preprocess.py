"""A clip as people hold it, to what a tokenizer takes: a file, or samples at any rate."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from common.extras import Extra, named_extras

soxr = Extra("soxr")

MOST_CHANNELS = 16
"""More are taken for samples along the wrong dimension."""


def preprocess_clip(
    clip: Any, wanted: int, sample_rate: int | None, channels_first: bool | None
) -> Float[Tensor, "1 t"]:
    """What `SpeechTokenizer.preprocess` says, on the CPU for all but tensors."""
    if isinstance(clip, str | Path):
        return from_file(Path(clip), wanted)[None]
    if not isinstance(clip, np.ndarray | Tensor):
        raise ValueError(f"{type(clip).__name__} is no clip: give a path, an array or a tensor")
    first = isinstance(clip, Tensor) if channels_first is None else channels_first
    samples = clip if isinstance(clip, Tensor) else torch.from_numpy(np.array(clip))
    mono = from_samples(samples, first)
    if sample_rate not in (None, wanted):
        resampled = soxr.resample(mono.cpu().numpy(), sample_rate, wanted)
        mono = torch.from_numpy(np.ascontiguousarray(resampled)).to(mono.device)
    return mono[None]


def from_samples(clip: Shaped[Tensor, "..."], channels_first: bool) -> Float[Tensor, " t"]:
    """One channel in [-1, 1], the mean of all. Raises ValueError for other types, shapes and values."""
    if clip.ndim not in (1, 2) or clip.numel() == 0:
        form = "(c, t)" if channels_first else "(t, c)"
        raise ValueError(f"a clip of shape {tuple(clip.shape)} must have the shape (t,) or {form}")
    if clip.ndim == 2:
        place = 0 if channels_first else 1
        if clip.shape[place] > MOST_CHANNELS:
            raise ValueError(
                f"a clip of shape {tuple(clip.shape)} would have {clip.shape[place]} channels: "
                f"say channels_first={not channels_first}, or give one clip alone"
            )
    if clip.dtype == torch.int16:
        clip = clip.float() / 2**15
    if not clip.is_floating_point():
        raise ValueError(f"a clip of type {clip.dtype}: give floats in [-1, 1], or int16")
    if not float(clip.abs().max()) <= 1:
        raise ValueError(
            f"a clip with a value of {float(clip.abs().max()):g}: give floats in [-1, 1]"
        )
    return clip.float() if clip.ndim == 1 else clip.float().mean(0 if channels_first else 1)


def from_file(path: Path, wanted: int) -> Float[Tensor, " t"]:
    """A file's samples, mixed down and resampled. Raises ValueError for one that can't be read."""
    with named_extras():
        from stage1_tokenizer.data import BadItemError
        from stage1_tokenizer.speech.data import read_audio
    try:
        return read_audio({"bytes": None, "path": str(path)}, wanted)
    except BadItemError as error:
        what = "can't be read as audio" if path.is_file() else "is not a file"
        reason = str(error).removeprefix(str(path))
        raise ValueError(f"{path} {what}{reason}") from None
