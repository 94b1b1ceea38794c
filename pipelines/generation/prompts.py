"""Clips that samples continue."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from common.files import sha256
from stage1_tokenizer.data import BadItemError
from stage1_tokenizer.speech.audio_folder import SUFFIXES
from stage1_tokenizer.speech.data import read_audio


@dataclass(frozen=True)
class Prompts:
    """What samples begin with, in the order of the files' names."""

    names: list[str]
    waveforms: list[Float[Tensor, " _"]]
    sha256: str
    """Of the files' hashes, in order."""

    def __getitem__(self, i: int) -> Float[Tensor, " _"]:
        """What sample i begins with."""
        return self.waveforms[i % len(self.waveforms)]


def read_prompts(
    folder: Path, seconds: float | None, count: int, sample_rate: int, hop: int, max_codes: int
) -> Prompts:
    """The first `count` clips of a folder, each its first seconds, at the tokenizer's rate.

    Raises ValueError for a folder without any, for a file that can't be read, and for a clip
    that has no whole code, or leaves no room below `max_codes`.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)[:count]
    if not paths:
        raise ValueError(
            f"prompts={folder} has no audio files ({', '.join(SUFFIXES)}): set prompts"
        )
    size = None if seconds is None else round(seconds * sample_rate)
    waveforms = []
    for path in paths:
        try:
            waveform = read_audio({"bytes": None, "path": str(path)}, sample_rate, seconds)[:size]
        except BadItemError:
            raise ValueError(f"{path} can't be read as audio: remove it or set prompts") from None
        codes = len(waveform) // hop
        if not 0 < codes < max_codes:
            raise ValueError(
                f"{path} gives {codes} whole codes of {hop} samples at {sample_rate} Hz, and from 1 to "
                f"{max_codes - 1} can be continued: set prompts or prompt_seconds"
            )
        waveforms.append(waveform)
    digest = hashlib.sha256("".join(map(sha256, paths)).encode()).hexdigest()
    return Prompts([path.name for path in paths], waveforms, digest)
