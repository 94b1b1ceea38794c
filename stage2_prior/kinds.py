"""The class of a prior by its config: over pictures or recordings, codes of a position flattened or by depth."""

from pathlib import Path

from common.config import load_config
from common.hub import local_folder
from stage2_prior.depth import DepthPrior
from stage2_prior.model import Prior, PriorConfig
from stage2_prior.speech_model import SpeechPrior, SpeechPriorConfig


class SpeechDepthPrior(DepthPrior, SpeechPrior):
    """p(codes, end | condition): positions and their codes as DepthPrior has them, conditions and ends as SpeechPrior.

    A position's first code may be the end in its stead.
    """

    config_class = SpeechPriorConfig
    config: SpeechPriorConfig


PRIORS = {"flattened": Prior, "depth": DepthPrior}
SPEECH_PRIORS = {"flattened": SpeechPrior, "depth": SpeechDepthPrior}
"""By the config's `levels_by`."""


def prior_of(config: PriorConfig) -> Prior:
    """A new prior over pictures."""
    return PRIORS[config.levels_by](config)


def speech_prior_of(config: SpeechPriorConfig) -> SpeechPrior:
    """A new prior over recordings."""
    return SPEECH_PRIORS[config.levels_by](config)


def saved_prior(name_or_dir: str | Path) -> Prior:
    """A saved prior over pictures."""
    folder = local_folder(name_or_dir)
    config = load_config(PriorConfig, folder / "config.json")
    return PRIORS[config.levels_by].from_pretrained(folder)


def saved_speech_prior(name_or_dir: str | Path) -> SpeechPrior:
    """A saved prior over recordings."""
    folder = local_folder(name_or_dir)
    config = load_config(SpeechPriorConfig, folder / "config.json")
    return SPEECH_PRIORS[config.levels_by].from_pretrained(folder)
