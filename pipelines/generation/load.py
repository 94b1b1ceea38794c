"""A pipeline of either modality, as its folder says."""

from pathlib import Path

from common.files import read_json
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.speech import SpeechGenerationPipeline

Pipeline = ImageGenerationPipeline | SpeechGenerationPipeline


def find_pipeline(place: Path) -> Path:
    """The folder of a pipeline, which may be that of its run. Raises ValueError for another."""
    for folder in (place, place / "pipeline", place / "prior" / "pipeline"):
        if (folder / "pipeline.json").is_file():
            return folder.resolve()
    raise ValueError(
        f"{place} is not the folder of a pipeline: give the folder `prior/pipeline` of a run"
    )


def load_pipeline(folder: Path) -> Pipeline:
    """The pipeline of a folder, on the CPU."""
    if "speakers" in read_json(folder / "pipeline.json"):
        return SpeechGenerationPipeline.from_pretrained(folder)
    return ImageGenerationPipeline.from_pretrained(folder)
