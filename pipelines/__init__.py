"""What a user runs: generation pipelines, and the verbs of the command line."""

from typing import TYPE_CHECKING

import common.threads  # before torch
from common.extras import lazily

if TYPE_CHECKING:
    from pipelines.generation.images import GenerationOutput, ImageGenerationPipeline
    from pipelines.generation.speech import SpeechGenerationPipeline, SpeechOutput

PLACES = {
    "pipelines.generation.images": ("ImageGenerationPipeline", "GenerationOutput"),
    "pipelines.generation.speech": ("SpeechGenerationPipeline", "SpeechOutput"),
}
"""Where each name comes from: imported on first use, as the command line answers --help without torch."""

__all__ = [name for names in PLACES.values() for name in names]
__getattr__ = lazily(__name__, PLACES)
