"""Packages that metrics of speech need, and the rates that they take."""

import importlib
from types import ModuleType

import numpy as np
from jaxtyping import Float
from torch import Tensor

from common.extras import Extra

soxr = Extra("soxr")

WIDE, NARROW = 16_000, 8_000
"""Rates of PESQ's two bands, in Hz; networks of voices, opinions and words take the first."""


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
    """The clip at another rate, float32 in [-1, 1]."""
    samples = waveform.float().cpu().numpy()
    if rate != wanted:
        samples = soxr.resample(samples, rate, wanted)
    return np.clip(samples, -1, 1)
