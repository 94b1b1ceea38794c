"""Spoken digits and short words, synthesised by espeak-ng from the wheel `espeakng-loader`."""

import ctypes
import functools
import io
import itertools
import shutil
import tempfile
from pathlib import Path

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value

from common.extras import Extra

soundfile, soxr = Extra("soundfile"), Extra("soxr")

WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("yes", "no", "stop", "go", "left", "right"),
)
"""The labels."""
SPEAKERS = (
    *("en-us", "en-us+f2", "en-us+m3", "en-us+f4", "en-us+m7"),
    *("en-gb-x-rp", "en-gb-scotland+f3", "en-us-nyc+m1"),
)
"""Voices of espeak-ng: an accent of English, and a variant of the throat."""
RATES = (110, 135, 160, 185)
"""Words per minute."""
PITCHES = (35, 50, 65)
"""Of espeak-ng's scale from 0 to 99."""
HELD_OUT = 6
"""One in so many variants of each word by each speaker is held out, as both `validation` and `test`."""
SAMPLE_RATE = 16_000

SYNCHRONOUS, UTF8, RATE, PITCH = 2, 1, 1, 3
"""Of espeak-ng's speak_lib.h: output mode, text encoding, and the indices of two parameters."""
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def spoken_digits(split: str) -> Dataset:
    """16 words by 8 voices at 4 rates and 3 pitches: 1,280 clips to train on, 256 held out.

    Columns: audio (FLAC at 16 kHz), label, text, speaker. The same in every process on a machine.
    """
    held_out = split != "train"
    rows = [row for row in _clips() if row["held_out"] == held_out]
    features = datasets.Features(
        audio={"bytes": Value("binary"), "path": Value("string")},
        label=ClassLabel(names=list(WORDS)),
        text=Value("string"),
        speaker=Value("string"),
    )
    columns = {name: [row[name] for row in rows] for name in features}
    return Dataset.from_dict(columns, features=features)


@functools.cache
def _clips() -> list[dict[str, object]]:
    """All clips, synthesised once per process and always in one order."""
    espeak = Espeak()
    rows: list[dict[str, object]] = []
    for (s, speaker), (w, word) in itertools.product(enumerate(SPEAKERS), enumerate(WORDS)):
        for v, (rate, pitch) in enumerate(itertools.product(RATES, PITCHES)):
            samples = soxr.resample(
                espeak.say(word, speaker, rate, pitch), espeak.rate, SAMPLE_RATE
            )
            buffer = io.BytesIO()
            soundfile.write(buffer, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            path = f"spoken_digits/{speaker}-{word}-{rate}-{pitch}.flac"
            rows.append(
                {
                    "audio": {"bytes": buffer.getvalue(), "path": path},
                    "label": w,
                    "text": word,
                    "speaker": speaker,
                    "held_out": (v + w + s) % HELD_OUT == 0,
                }
            )
    return rows


class Espeak:
    """A new espeak-ng synthesiser.

    Its output depends a little on what it said before, so each instance loads its own copy of the
    library and sets a fixed random seed.
    """

    def __init__(self) -> None:
        import espeakng_loader

        with tempfile.TemporaryDirectory() as folder:
            self._library = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), folder))
        self._parts: list[np.ndarray] = []
        self._callback = CALLBACK(self._receive)  # kept, for the library holds no reference
        data = str(Path(espeakng_loader.get_data_path())).encode()
        self.rate: int = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, 0)
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng did not start: espeak_Initialize gave {self.rate}")
        self._library.espeak_ng_SetRandSeed(0)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """Samples at `self.rate`, float32 in [-1, 1]."""
        self._parts.clear()
        content = text.encode()
        results = (
            self._library.espeak_SetVoiceByName(voice.encode()),
            self._library.espeak_SetParameter(RATE, rate, 0),
            self._library.espeak_SetParameter(PITCH, pitch, 0),
            self._library.espeak_Synth(content, len(content) + 1, 0, 1, 0, UTF8, None, None),
            self._library.espeak_Synchronize(),
        )
        if any(results) or not self._parts:
            raise RuntimeError(f"espeak-ng could not say {text!r} as {voice}: {results}")
        return np.concatenate(self._parts).astype(np.float32) / 2**15

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if samples and count:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
