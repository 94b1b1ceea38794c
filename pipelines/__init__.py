"""What a user runs: generation pipelines, and the verbs of the command line."""

import common.threads  # noqa: F401  (before torch)
from pipelines.images.generation import GenerationOutput, ImageGenerationPipeline
from pipelines.speech.generation import SpeechGenerationPipeline, SpeechOutput

__all__ = [
    "GenerationOutput",
    "ImageGenerationPipeline",
    "SpeechGenerationPipeline",
    "SpeechOutput",
]
