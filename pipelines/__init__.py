"""What a user runs: generation pipelines, and the verbs of the command line."""

import common.threads  # noqa: F401  (before torch)
from pipelines.generation.images import GenerationOutput, ImageGenerationPipeline
from pipelines.generation.speech import SpeechGenerationPipeline, SpeechOutput

__all__ = [
    "GenerationOutput",
    "ImageGenerationPipeline",
    "SpeechGenerationPipeline",
    "SpeechOutput",
]
