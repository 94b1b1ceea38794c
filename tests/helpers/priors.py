"""Small priors far enough from their near-uniform init that no choice of theirs is a tie."""

from typing import Any

import torch
from torch import Tensor

from stage2_prior import Prior, PriorConfig
from stage2_prior.build import prior_class
from stage2_prior.sampling import sample_codes, trimmed
from stage2_prior.sampling_options import SamplingOptions

K, LENGTH, CLASSES = 50, 12, 3
"""Of `image_prior`."""
SPEECH_K, LONGEST = 20, 12
"""Of `speech_prior`."""
PARTS: dict[str, Any] = {
    "none": {},
    "label": {"classes": 3},
    "speaker": {"speakers": 2},
    "label+speaker": {"classes": 3, "speakers": 2},
    "text": {"characters": " ehnort", "text_length": 5},
}
"""What a config says of each condition."""
GIVEN: dict[str, Any] = {
    "none": {},
    "label": {"labels": [0, 2, 1]},
    "speaker": {"speakers": [1, 0, 1]},
    "label+speaker": {"labels": [0, 2, 1], "speakers": [1, 0, 1]},
    "text": {"texts": ["three", "One", ""]},
}
"""Conditions of three samples."""


def randomized(prior: Any) -> Any:
    """The prior with other matrices, in eval mode."""
    for parameter in prior.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return prior.eval()


def random_prior(**options: Any) -> Prior:
    """A prior of the smallest size, its weights and any codebook a function of the config."""
    torch.manual_seed(0)
    config = PriorConfig(size="1m", **options)
    prior = prior_class(config)(config)
    if config.head == "codebook" and not config.ends:
        prior.vocabulary.set_codebook(torch.randn(config.codebook_size, config.code_dim))
    return randomized(prior)


def image_prior(**options: Any) -> Prior:
    """One whose sequences all have the same length."""
    return random_prior(codebook_size=K, code_dim=6, length=LENGTH, classes=CLASSES, **options)


def speech_prior(condition: str = "label+speaker", **options: Any) -> Prior:
    """One whose sequences end."""
    return random_prior(
        codebook_size=SPEECH_K,
        code_dim=4,
        length=LONGEST,
        condition=condition,
        **{"max_codes": 18, **PARTS[condition], **options},
    )


def sampled(
    prior: Prior, conditions: Tensor, seeds: Any, prompts: Any = None, **options: Any
) -> list[Tensor]:
    """The codes of each sample, of its own length."""
    return trimmed(sample_codes(prior, conditions, seeds, SamplingOptions(**options), prompts))
