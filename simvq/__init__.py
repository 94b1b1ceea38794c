"""What is used most, in one place: `from simvq import SimVQ`. Each name is imported on first use."""

from typing import TYPE_CHECKING

from common.extras import lazily

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
    from stage2_prior import Prior

PLACES = {
    "stage1_tokenizer.quantizers": (
        *("SimVQ", "ResidualSimVQ", "SimVQConfig", "Quantized"),
        *("VQ", "EMA", "RQ", "FSQ", "LFQ"),
    ),
    "stage1_tokenizer": ("ImageTokenizer", "SpeechTokenizer"),
    "stage2_prior": ("Prior",),
    "pipelines": ("ImageGenerationPipeline", "SpeechGenerationPipeline"),
}
"""Where each name comes from."""

__all__ = [name for names in PLACES.values() for name in names]
__getattr__ = lazily(__name__, PLACES)


def __dir__() -> list[str]:
    """For completion."""
    return sorted(__all__)
