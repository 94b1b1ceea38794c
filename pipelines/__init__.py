"""What a user runs: generation pipelines, and the verbs of the command line."""

from pipelines.image_generation import GenerationOutput, ImageGenerationPipeline

__all__ = ["GenerationOutput", "ImageGenerationPipeline"]
