"""A pipeline of either modality, as its folder says."""

from pathlib import Path

from common.files import read_json
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.speech import SpeechGenerationPipeline

Pipeline = ImageGenerationPipeline | SpeechGenerationPipeline


def load_pipeline(folder: Path) -> Pipeline:
    """The pipeline of a folder, on the CPU."""
    if "speakers" in read_json(folder / "pipeline.json"):
        return SpeechGenerationPipeline.from_pretrained(folder)
    return ImageGenerationPipeline.from_pretrained(folder)
