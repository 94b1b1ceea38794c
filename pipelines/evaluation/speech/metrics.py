"""How close single recordings are to their originals, and how good they sound by themselves."""

import importlib
import math
import warnings
from collections.abc import Callable, Iterable
from statistics import fmean, stdev
from types import ModuleType
from typing import Literal

import numpy as np
import soxr
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipelines.evaluation.table import Number
from stage1_tokenizer.speech.data import decibels
from stage1_tokenizer.speech.losses import MelDistance

SILENT_DB = -80.0
"""A recording below this root mean square, about that of 16-bit rounding, is silent."""
WIDE, NARROW = 16_000, 8_000
"""Rates of PESQ's two bands, in Hz; networks of voices and opinions hear the first."""
LEAST_STOI = 1e-4
"""pystoi answers 1e-5 where less than 0.4 s are left once it has removed the pauses."""
VOICE_HZ = (65.0, 500.0)
"""Range of the pitch."""
FRAME_SECONDS = 0.01
"""Between two decisions whether there is voice."""
PYIN_SECONDS = 0.064
"""Of the recording, that one decision of pyin's looks at."""
Voicing = Literal["pyin", "crepe", "none"]


class MissingPackageError(ValueError):
    """A package that a metric needs is not installed; the message says how to get it."""


def package(module: str, install: str = "") -> ModuleType:
    """The module, imported when it is first needed. Raises MissingPackageError.

    `install` is how to get it, where it is more than its name.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise MissingPackageError(
            f"{name} can't be imported ({error}): run pip install {install or name}"
        ) from None


def resampled(waveform: Float[Tensor, " t"], rate: int, wanted: int) -> np.ndarray:
    """The recording at another rate, float32 in [-1, 1]."""
    samples = waveform.float().cpu().numpy()
    if rate != wanted:
        samples = soxr.resample(samples, rate, wanted)
    return np.clip(samples, -1, 1)


def pesq(
    original: Float[Tensor, " t"], made: Float[Tensor, " t"], rate: int, band: Literal["wb", "nb"]
) -> float | None:
    """PESQ of a reconstruction, None where either is silent or too short for it to find speech in."""
    module, wanted = (
        package("pesq", "pesq, with a C compiler at hand"),
        WIDE if band == "wb" else NARROW,
    )
    if min(decibels(original), decibels(made)) < SILENT_DB:
        return None
    pair = [resampled(waveform, rate, wanted) for waveform in (original, made)]
    try:
        return float(module.pesq(wanted, *pair, band))
    except (module.NoUtterancesError, module.BufferTooShortError):
        return None


def stoi(original: Float[Tensor, " t"], made: Float[Tensor, " t"], rate: int) -> float | None:
    """STOI of a reconstruction, None where the original is silent or has under 0.4 s of speech."""
    module = package("pystoi")
    if decibels(original) < SILENT_DB:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of too few frames: it is counted out
        found = float(module.stoi(original.cpu().numpy(), made.float().cpu().numpy(), rate))
    return None if 0 < found < LEAST_STOI else found


def voiced(waveform: Float[Tensor, " t"], rate: int, voicing: Voicing) -> Bool[np.ndarray, " n"]:
    """Whether there is voice, every 10 ms, by one detector."""
    low, high = VOICE_HZ
    if voicing == "pyin":
        librosa = package("librosa")
        size = 2 ** round(math.log2(PYIN_SECONDS * rate))
        _, flags, _ = librosa.pyin(
            resampled(waveform, rate, rate), fmin=low, fmax=high, sr=rate, frame_length=size,
            hop_length=round(FRAME_SECONDS * rate),
        )  # fmt: skip
        return flags
    torchcrepe = package("torchcrepe")
    pitch, periodicity = torchcrepe.predict(
        torch.from_numpy(resampled(waveform, rate, WIDE))[None], WIDE,
        hop_length=round(FRAME_SECONDS * WIDE), fmin=low, fmax=high, model="full",
        return_periodicity=True, device="cuda" if torch.cuda.is_available() else "cpu",
    )  # fmt: skip
    return ~torch.isnan(torchcrepe.threshold.Hysteresis()(pitch, periodicity))[0].cpu().numpy()


def voicing_f1(
    original: Float[Tensor, " t"], made: Float[Tensor, " t"], rate: int, voicing: Voicing
) -> float | None:
    """F1 of the reconstruction's voiced frames, None where neither has any."""
    truth, guess = (voiced(waveform, rate, voicing) for waveform in (original, made))
    both = int((truth & guess).sum())
    either = int(truth.sum()) + int(guess.sum())
    return 2 * both / either if either else None


def mel_distance(
    distance: MelDistance, original: Float[Tensor, " t"], made: Float[Tensor, " t"]
) -> float:
    """Of seven scales, as in the tokenizer's loss."""
    return float(distance(made[None], original[None]))


def dnsmos(waveform: Float[Tensor, " t"], rate: int) -> tuple[float, float] | None:
    """DNSMOS's overall (P.835) and P.808 opinions, None for silence."""
    module = package("speechmos.dnsmos")
    if decibels(waveform) < SILENT_DB:
        return None
    found = module.run(resampled(waveform, rate, WIDE), sr=WIDE)
    return float(found["ovrl_mos"]), float(found["p808_mos"])


def over_clips(measure: Callable[[], Iterable[float | None]], what: str) -> Number:
    """The mean over the clips that have a value, how many have none, or why it can't be computed."""
    try:
        found = list(measure())
    except MissingPackageError as error:
        return Number(value=None, reason=str(error))
    values = [value for value in found if value is not None]
    if not values:
        return Number(value=None, reason=f"none of {len(found)} clips has a value: {what}")
    left_out = len(found) - len(values)
    note = "mean ± standard deviation over the clips"
    if left_out:
        note += f"; {left_out} of {len(found)} counted out: {what}"
    return Number(
        value=fmean(values),
        spread=stdev(values) if len(values) > 1 else None,
        count=len(values),
        note=note,
    )
