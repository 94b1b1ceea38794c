"""What a user runs: generation pipelines, and the verbs of the command line."""

from pipelines.images.generation import GenerationOutput, ImageGenerationPipeline
from pipelines.speech.generation import SpeechGenerationPipeline, SpeechOutput

__all__ = [
    "GenerationOutput",
    "ImageGenerationPipeline",
    "SpeechGenerationPipeline",
    "SpeechOutput",
]
