"""Files of sound of every kind, whole and broken, and what each must decode to."""

import io
import itertools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

Samples = np.ndarray[Any, Any]
OddClip = tuple[str, bytes, "Samples | None", float]
"""A name, a file's content, the samples (t,) at RATE that it must decode to if it does not have to be refused, and by
how much they may differ on average."""
RATE = 8000
FORMATS = ("WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "W64", "RF64", "NIST", "WAVEX", "SVX", "MP3")
COARSE = (
    "MS_ADPCM",
    "IMA_ADPCM",
    "GSM610",
    "VORBIS",
    "OPUS",
    "MPEG_LAYER_III",
    "PCM_S8",
    "PCM_U8",
    "ULAW",
    "ALAW",
)
"""Codings that lose something, and those of eight bits."""
RATES = (1000, 4000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 768_000)


def tone(rate: int = RATE, seconds: float = 0.5, hertz: float = 200) -> Samples:
    """A tone that fades in, so that its parts can be told apart."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.4 * np.sin(2 * np.pi * hertz * t) * t / seconds


def content(
    samples: Samples, rate: int = RATE, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    """The file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def of_every_coding() -> Iterator[OddClip]:
    """Each format with each of its codings, as far as soundfile writes them at this rate."""
    for kind in FORMATS:
        for subtype in soundfile.available_subtypes(kind):
            try:
                stored = content(tone(), kind=kind, subtype=subtype)
            except soundfile.SoundFileError:
                continue
            tolerance = 0.08 if subtype.startswith((*COARSE, "NMS", "G72", "VOX", "DPCM")) else 1e-3
            yield f"{kind} {subtype}", stored, tone(), tolerance


def of_every_shape() -> Iterator[OddClip]:
    """Rates, channels and lengths."""
    for rate in RATES:
        yield f"{rate} Hz", content(tone(rate), rate), tone(), 0.01
    for channels in (2, 3, 6, 8, 12):
        samples = np.stack([tone()] * channels, 1)
        yield f"{channels} channels", content(samples), tone(), 1e-3
    yield "one second at 1 Hz", content(np.array([0.5]), 1), None, 0
    for count in (1, 2, 7):
        yield f"{count} samples", content(np.full(count, 0.25)), np.full(count, 0.25), 1e-3
    yield "no samples", content(np.zeros(0)), None, 0
    yield "three samples at 768,000 Hz", content(np.zeros(3), 768_000), None, 0


def no_numbers() -> Iterator[OddClip]:
    """Samples that can't be trained on."""
    for value, coding in itertools.product((np.nan, np.inf, -np.inf, 1e30), ("FLOAT", "DOUBLE")):
        samples = tone()
        samples[1000] = value
        yield f"{value} in {coding}", content(samples, subtype=coding), None, 0


def broken() -> Iterator[OddClip]:
    """Files that were cut off, or are no clips."""
    for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        whole = content(tone(), kind=kind)
        for share in (0.02, 0.5, 0.9):
            kept = whole[: int(share * len(whole))]
            yield f"{share:.0%} of a {kind}", kept, tone(), 0.08
    whole = content(tone())
    huge = whole[:40] + struct.pack("<I", 2**32 - 1) + whole[44:]
    yield "a WAV that says it has 4 GiB", huge, tone(), 1e-3
    for name, data in {
        "nothing": b"",
        "one byte": b"\x00",
        "text": b"not a clip",
        "a WAV's first bytes": b"RIFF\x24\x00\x00\x00WAVE",
        "a header alone": whole[:44],
        "zeros": bytes(10_000),
        "a FLAC's first bytes": b"fLaC",
        "an OGG's first bytes": b"OggS\x00\x02" + bytes(20),
        "an ID3 tag": b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10),
        "no channels": whole[:22] + struct.pack("<H", 0) + whole[24:],
        "a rate of 0": whole[:24] + struct.pack("<I", 0) + whole[28:],
        "0 bits": whole[:34] + struct.pack("<H", 0) + whole[36:],
    }.items():
        yield name, data, None, 0


def odd_clips() -> list[OddClip]:
    """All of them."""
    makers = (of_every_coding, of_every_shape, no_numbers, broken)
    return [one for make in makers for one in make()]
