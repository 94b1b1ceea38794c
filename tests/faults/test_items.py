"""Images and clips of every kind of file, whole and broken: each is decoded to what it shows, or counted as bad with its name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.odd_clips import RATE, odd_clips
from helpers.odd_images import odd_images
from helpers.verdicts import CHANGED, FINE, TOLD, TRACEBACK, WRONG, Tally

from stage1_tokenizer.data import BadItemError
from stage1_tokenizer.images.data import (
    ImageAugmentConfig,
    ImageDataConfig,
    load_images,
    views,
)
from stage1_tokenizer.speech.data import SpeechAugmentConfig, SpeechDataConfig, load_clips

NEAR = 12
"""Of 255: how far pixels of a format that loses something may be from the image's, on average."""
MAY_BE_REFUSED = ("flipped", "% of a ", "DWVW")
"""In the names of files that may be refused, or be used as far as they go: a WAV that was cut off has no end to miss."""
IMAGES, CLIPS = odd_images(), odd_clips()


def verdict(
    decode: Callable[[], Any], right: Callable[[Any], bool] | None, path: str, name: str
) -> str:
    """Of an item; one with nothing to be `right` must be refused."""
    try:
        decoded = decode()
        return FINE if right is not None and right(decoded) else WRONG
    except BadItemError as error:
        may_be = right is None or any(word in name for word in MAY_BE_REFUSED)
        return (TOLD if may_be else CHANGED) if path in str(error) else TRACEBACK
    except Exception:
        return TRACEBACK


@pytest.mark.parametrize("stored_as", ["bytes", "path"])
def test_images_are_what_they_show_or_are_bad(stored_as: str, tmp_path: Path, tally: Tally) -> None:
    data = load_images(ImageDataConfig(), "train", channels=3, size=16)
    for name, content, shown in IMAGES:
        (tmp_path / "item").write_bytes(content)
        whole = {"bytes": content, "path": name}
        stored = whole if stored_as == "bytes" else {"bytes": None, "path": str(tmp_path / "item")}

        def right(image: Any, shown: Any = shown) -> bool:
            pixels = np.asarray(image).astype(float)
            cut = [*views(image, data.size, ("centre", "top-left-flip"))]
            generator = torch.Generator().manual_seed(0)
            row = {"image": stored}  # noqa: B023
            augment = ImageAugmentConfig(crop=True, flip=True)
            cut.append(data.training_item(row, generator, augment)["images"])
            fit = all(v.shape == (3, 16, 16) and bool((v.abs() <= 1).all()) for v in cut)
            return fit and pixels.shape == shown.shape and bool(abs(pixels - shown).mean() <= NEAR)

        how = verdict(
            lambda stored=stored: data.decode({"image": stored}),  # type: ignore[misc]
            None if shown is None else right,
            str(stored["path"]),
            name,
        )
        tally.take("image file", f"{stored_as} {name}", how)
    tally.check()


@pytest.mark.parametrize("stored_as", ["bytes", "path"])
def test_clips_are_what_they_play_or_are_bad(stored_as: str, tmp_path: Path, tally: Tally) -> None:
    data = load_clips(SpeechDataConfig(), "validation", sample_rate=RATE)
    for name, content, samples, tolerance in CLIPS:
        (tmp_path / "item").write_bytes(content)
        whole = {"bytes": content, "path": name}
        stored = whole if stored_as == "bytes" else {"bytes": None, "path": str(tmp_path / "item")}

        def right(waveform: Any, samples: Any = samples, tolerance: float = tolerance) -> bool:
            augment = SpeechAugmentConfig(crop_seconds=0.25, silence_db=-200)
            generator = torch.Generator().manual_seed(0)
            crop = data.training_item({"audio": stored}, generator, augment)["waveforms"]  # noqa: B023
            ours = np.asarray(waveform)
            cut = "% of a " in name  # noqa: B023
            shortest, longest = (1 if cut else len(samples)), len(samples) + 2000
            if crop.shape != (RATE // 4,) or not shortest <= len(ours) <= longest:
                return False
            common = min(len(ours), len(samples))
            near = abs(ours[:common] - samples[:common]).mean() <= tolerance
            return bool(near and np.isfinite(ours).all() and crop.isfinite().all())

        how = verdict(
            lambda stored=stored: data.decode({"audio": stored}),  # type: ignore[misc]
            None if samples is None else right,
            str(stored["path"]),
            name,
        )
        tally.take("sound file", f"{stored_as} {name}", how)
    tally.check()


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "device", "socket"])
def test_what_is_no_file_is_bad_and_not_waited_for(kind: str, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "item"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "socket":
        import socket

        socket.socket(socket.AF_UNIX).bind(str(path))
    images = load_images(ImageDataConfig(), "train", channels=3, size=16)
    clips = load_clips(SpeechDataConfig(), "validation", sample_rate=RATE)
    stored = {"bytes": None, "path": str(path)}
    for name, decode in (
        ("image file", lambda: images.decode({"image": stored})),
        ("sound file", lambda: clips.decode({"audio": stored})),
    ):
        tally.take(name, f"{kind}", verdict(decode, None, str(path), kind))
    tally.check()


def test_there_are_many() -> None:
    assert len(IMAGES) >= 80 and len(CLIPS) >= 80
