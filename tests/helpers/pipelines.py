"""Untrained pipelines of the smallest size, for what does not depend on how good they are."""

from typing import Any

import torch
from helpers.image_runs import MODEL
from helpers.priors import randomized
from helpers.speech_runs import MODEL as SPEECH

from pipelines import ImageGenerationPipeline, SpeechGenerationPipeline
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage2_prior import PriorConfig
from stage2_prior.build import prior_class

SIDE = 4
"""Codes along an image."""


def image_pipeline(quantizer: Any = MODEL.quantizer, **options: Any) -> ImageGenerationPipeline:
    """One of grey images of 8 x 8 pixels, 4 x 4 codes and three classes."""
    torch.manual_seed(0)
    shape: Any = {"image_size": 8, "in_channels": 1, "width": 32, "multipliers": (1, 1)}
    config = type(MODEL)(**shape, blocks_per_level=1, quantizer=quantizer)
    tokenizer = ImageTokenizer(config)
    spec = tokenizer.quantizer.spec
    prior = PriorConfig(
        codebook_size=spec.alphabet,
        code_dim=4,
        length=SIDE * SIDE * spec.levels,
        sizes=spec.sizes if spec.levels > 1 else (),
        classes=3,
        size="1m",
        **options,
    )
    return ImageGenerationPipeline(
        tokenizer, randomized(prior_class(prior)(prior)), ["a", "b", "c"]
    )


def speech_pipeline(**options: Any) -> SpeechGenerationPipeline:
    """One of clips of at most 30 codes and two classes."""
    torch.manual_seed(0)
    tokenizer = SpeechTokenizer(SPEECH)
    prior = PriorConfig(
        codebook_size=tokenizer.quantizer.spec.alphabet,
        code_dim=SPEECH.quantizer.code_dim,
        length=20,
        max_codes=30,
        classes=2,
        size="1m",
        **options,
    )
    return SpeechGenerationPipeline(
        tokenizer, randomized(prior_class(prior)(prior)), ["x", "y"], []
    )
