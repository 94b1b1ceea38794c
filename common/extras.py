"""Packages that a part of the project needs, and the extra that installs each: `pip install 'simvq-pipeline[train]'`."""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

EXTRAS = {
    "train": (
        *("accelerate", "datasets", "fsspec", "jinja2", "matplotlib", "PIL", "pyarrow"),
        *("scipy", "sklearn", "tabulate", "torch_fidelity", "torchmetrics", "torchvision"),
        *("tqdm", "transformers"),
    ),
    "audio": ("espeakng_loader", "soundfile", "soxr", "torchaudio"),
    "score": ("librosa", "onnxruntime", "pocketsphinx", "pystoi", "requests", "speechmos"),
    "demo": ("gradio",),
    "export": ("onnx", "onnxscript"),
}
"""The modules that come with each extra; all others come with the package itself."""


class MissingExtraError(ModuleNotFoundError):
    """A package of an extra is not installed; the message names the extra."""


@contextlib.contextmanager
def named_extras() -> Iterator[None]:
    """A context in which a missing package raises MissingExtraError, if it comes with an extra."""
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        for extra, modules in EXTRAS.items():
            if module in modules:
                raise MissingExtraError(
                    f"{module} is not installed: pip install 'simvq-pipeline[{extra}]'", name=module
                ) from None
        raise


def lazily(module: str, places: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose names are imported on first use, by the place that each comes from."""

    def named(name: str) -> Any:
        for place, names in places.items():
            if name in names:
                with named_extras():
                    return getattr(importlib.import_module(place), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return named


class Extra:
    """A module that is imported when it is first used: `soundfile = Extra("soundfile")`."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        """The module's own. Raises MissingExtraError where it is not installed."""
        with named_extras():
            return getattr(importlib.import_module(self._module), name)
