"""What `simvq run` looks at before its first step: that all folders can be written and all data can be read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.runs import refuse_missing
from pipelines.cli import output_folder
from stage1_tokenizer.images.data import image_rows
from stage1_tokenizer.speech.data import SpeechDataConfig, clip_rows

RESULTS = ("model", "best", "pipeline", "checkpoints", "second", "discriminator")
"""Folders that a run makes in its own."""


def check_before(configs: Mapping[str, Any]) -> None:
    """Raises ValueError for a folder that can't be written, a tracker that is missing, and a split that can't be read."""
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
            return


def check_folder(folder: Path) -> None:
    """Raises ValueError for a file in the way, and for a folder that this user may not write."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(
            f"{there} is a file, and {folder} must be a folder: remove it, or set run_dir"
        )
    if not os.access(there, os.W_OK):
        raise ValueError(f"{there} can't be written: set run_dir to another folder")
