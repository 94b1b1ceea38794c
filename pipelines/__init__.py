"""What a user runs: generation pipelines, and the verbs of the command line."""

from typing import TYPE_CHECKING, Any

import common.threads  # noqa: F401  (before torch)

if TYPE_CHECKING:
    from pipelines.images.generation import GenerationOutput, ImageGenerationPipeline
    from pipelines.speech.generation import SpeechGenerationPipeline, SpeechOutput

__all__ = [
    "GenerationOutput",
    "ImageGenerationPipeline",
    "SpeechGenerationPipeline",
    "SpeechOutput",
]


def __getattr__(name: str) -> Any:
    """The pipelines, imported when they are asked for: the command line answers --help without torch."""
    if name in ("ImageGenerationPipeline", "GenerationOutput"):
        from pipelines.images import generation as images

        return getattr(images, name)
    if name in ("SpeechGenerationPipeline", "SpeechOutput"):
        from pipelines.speech import generation as speech

        return getattr(speech, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
