"""What a user runs: generation pipelines, and the verbs of the command line."""

from typing import TYPE_CHECKING, Any

import common.threads  # before torch
from common.extras import named_extras

if TYPE_CHECKING:
    from pipelines.generation.images import GenerationOutput, ImageGenerationPipeline
    from pipelines.generation.speech import SpeechGenerationPipeline, SpeechOutput

__all__ = [
    "GenerationOutput",
    "ImageGenerationPipeline",
    "SpeechGenerationPipeline",
    "SpeechOutput",
]


def __getattr__(name: str) -> Any:
    """The pipelines, imported on first use: the command line answers --help without torch."""
    with named_extras():
        if name in ("ImageGenerationPipeline", "GenerationOutput"):
            from pipelines.generation import images

            return getattr(images, name)
        if name in ("SpeechGenerationPipeline", "SpeechOutput"):
            from pipelines.generation import speech

            return getattr(speech, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
