"""What `simvq run` looks at before its first step: folders that can be written, data that can be read, labels that exist."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.runs import refuse_missing
from pipelines.cli import output_folder
from pipelines.generation.named import Named, numbers_of
from stage1_tokenizer.images.data import image_rows, load_images
from stage1_tokenizer.speech.data import SpeechDataConfig, clip_rows, load_clips

RESULTS = ("model", "best", "pipeline", "checkpoints", "second", "discriminator")
"""Folders that a run makes in its own."""


def check_before(configs: Mapping[str, Any]) -> None:
    """Raises ValueError for what can be known to fail.

    That is a folder that can't be written, a tracker that is missing, a split that can't be read, and a label or speaker to sample that
    the training split, whose prior is made before, does not have.
    """
    for config in configs.values():
        folder = output_folder(config)
        for place in (folder, *(folder / name for name in RESULTS)):
            check_folder(place)
        refuse_missing(getattr(config, "trackers", ()))
    for config in configs.values():
        if hasattr(config, "data"):
            rows: Any = clip_rows if isinstance(config.data, SpeechDataConfig) else image_rows
            for split in config.data.splits:
                rows(config.data, split)
            break
    if "codes" in configs and "samples" in configs:
        check_conditions(configs["codes"].data, configs["samples"])


def check_conditions(data: Any, samples: Any) -> None:
    """Raises ValueError for a label or a speaker to sample that no training item has."""
    asked = {kind: getattr(samples, f"{kind}s", None) for kind in ("label", "speaker")}
    given = {kind: named for kind, named in asked.items() if named is not None}
    if not given:
        return  # the data need not be read once more
    if isinstance(data, SpeechDataConfig):
        clips = load_clips(data, "train", sample_rate=1)  # no clip is read
        names = {"label": clips.classes, "speaker": clips.speakers}
    else:
        names = {"label": load_images(data, "train", channels=3, size=1).classes}  # nor an image
    for kind, named in given.items():
        check_named(named, names[kind], kind)


def check_named(given: Named | Sequence[Named], names: Sequence[str], kind: str) -> None:
    """Raises ValueError for a name that is not among these, and for a number that none of them has."""
    try:
        outside = [i for i in numbers_of(given, names, kind) or () if not 0 <= i < len(names)]
    except ValueError as error:
        raise ValueError(f"{error}: set samples.{kind}s") from None
    if outside:
        raise ValueError(
            f"{kind} {outside[0]}: the data have {len(names)} {kind}s, counted from 0: set samples.{kind}s"
        )


def check_folder(folder: Path) -> None:
    """Raises ValueError for a file in the way, and for a folder that this user may not write."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(
            f"{there} is a file, and {folder} must be a folder: remove it, or set run_dir"
        )
    if not os.access(there, os.W_OK):
        raise ValueError(f"{there} can't be written: set run_dir to another folder")
