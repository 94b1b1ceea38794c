"""What a visitor of the page may ask for: size of uploads, length of clips, number of samples, time of an answer."""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio
import soundfile
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stage1_tokenizer.data import BadItemError
from stage1_tokenizer.images.data import LONGEST, upright, view
from stage1_tokenizer.speech.data import read_audio

MOST_BYTES = 10 * 2**20
"""Largest upload."""
MOST_PIXELS = 2**25
"""Largest image, by the size in its header: 5,792 x 5,792."""
MOST_SECONDS = 20.0
"""Longest clip, uploaded, recorded or sampled."""
MOST_IMAGES = 16
"""Most images sampled at once."""
ANSWER_SECONDS = 60.0
"""Time after which drawing is stopped."""


def errors_shown(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The answer to a click; a mistake of the visitor's becomes a sentence on the page."""

    @functools.wraps(answer)
    def telling(*given: Any) -> Any:
        try:
            return answer(*given)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from None

    return telling


def errors_shown_while_streaming(
    answer: Callable[..., Iterator[Any]],
) -> Callable[..., Iterator[Any]]:
    """As `errors_shown`, for an answer that comes piece by piece; it is stopped when it takes too long."""

    @functools.wraps(answer)
    def telling(*given: Any) -> Iterator[Any]:
        end = time.monotonic() + ANSWER_SECONDS
        try:
            for piece in answer(*given):
                yield piece
                if time.monotonic() > end:
                    raise ValueError(
                        f"stopped after {ANSWER_SECONDS:g} seconds: draw fewer at once"
                    )
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from None

    return telling


def check_size(path: str | None, what: str) -> Path:
    """The file of an upload. Raises ValueError for none, and for one of too many bytes."""
    if path is None:
        raise ValueError(f"there is no {what} yet: choose a file first")
    size = Path(path).stat().st_size
    if size > MOST_BYTES:
        raise ValueError(
            f"the file has {size / 2**20:.1f} MiB, and at most {MOST_BYTES / 2**20:g} are taken"
        )
    return Path(path)


def read_image(path: str | None, channels: int, side: int) -> Float[Tensor, "1 c y x"]:
    """The centre view of an upload, in [-1, 1]. Raises ValueError for what is no image, or too large a one."""
    file = check_size(path, "image")
    try:
        with Image.open(file) as image:
            width, height = image.size
            fits = width * height <= MOST_PIXELS and max(image.size) <= LONGEST * min(image.size)
            turned = upright(image, channels) if fits else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(f"{file.name} can't be read as an image: choose another file") from None
    if turned is None:
        raise ValueError(
            f"{file.name} has {width} x {height} pixels, and at most {MOST_PIXELS:,} are taken, one side at most "
            f"{LONGEST} times the other"
        )
    return view(turned, side, "centre")[None]


def read_clip(path: str | None, sample_rate: int, hop: int) -> Float[Tensor, " t"]:
    """The whole hops of an upload or a clip that was recorded. Raises ValueError for what is no sound, too long or too short."""
    file = check_size(path, "sound")
    try:
        seconds = soundfile.info(file).duration
        if seconds > MOST_SECONDS:
            raise ValueError(
                f"the clip has {seconds:.1f} seconds, and at most {MOST_SECONDS:g} are taken"
            )
        waveform = read_audio({"bytes": None, "path": str(file)}, sample_rate)
    except (soundfile.SoundFileError, BadItemError):
        raise ValueError(f"{file.name} can't be read as sound: choose another file") from None
    if len(waveform) < hop:
        raise ValueError(f"the clip is shorter than one code, {hop / sample_rate:.3f} seconds")
    return waveform[: len(waveform) // hop * hop]
