"""The samples of a config, whatever the modality."""

from pathlib import Path
from typing import Any

from pipelines.generation.image_samples import ImageSamples
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.load import Pipeline
from pipelines.generation.speech import SpeechGenerationPipeline
from pipelines.generation.speech_samples import SpeechSamples
from pipelines.sample_config import SampleImagesConfig, SampleSpeechConfig

Samples = ImageSamples | SpeechSamples
"""What is particular to a modality: the conditions, the files."""


def sampling_pipeline(config: SampleImagesConfig | SampleSpeechConfig, folder: Path) -> Pipeline:
    """The pipeline of a folder, on the CPU. Raises ValueError for one of another modality than the config's."""
    if isinstance(config, SampleSpeechConfig):
        return SpeechGenerationPipeline.from_pretrained(folder)
    return ImageGenerationPipeline.from_pretrained(folder)


def new_samples(config: SampleImagesConfig | SampleSpeechConfig, pipeline: Any) -> Samples:
    """The samples of a config by its pipeline, not generated yet."""
    if isinstance(config, SampleSpeechConfig):
        return SpeechSamples(config, pipeline)
    return ImageSamples(config, pipeline)
