"""The public names of all folders in one place: `from simvq import SimVQ`. Each is imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from common.extras import named_extras

if TYPE_CHECKING:
    from pipelines import ImageGenerationPipeline, SpeechGenerationPipeline
    from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
    from stage1_tokenizer.quantizers import (
        EMA,
        FSQ,
        LFQ,
        RQ,
        VQ,
        Quantized,
        ResidualSimVQ,
        SimVQ,
        SimVQConfig,
    )

PLACES = {
    "stage1_tokenizer.quantizers": (
        *("SimVQ", "ResidualSimVQ", "SimVQConfig", "Quantized"),
        *("VQ", "EMA", "RQ", "FSQ", "LFQ"),
    ),
    "stage1_tokenizer": ("ImageTokenizer", "SpeechTokenizer"),
    "pipelines": ("ImageGenerationPipeline", "SpeechGenerationPipeline"),
}
"""Where each name comes from."""

__all__ = [name for names in PLACES.values() for name in names]


def __getattr__(name: str) -> Any:
    """The class of that name, from its folder."""
    for place, names in PLACES.items():
        if name in names:
            with named_extras():
                return getattr(import_module(place), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """For completion."""
    return sorted(__all__)
