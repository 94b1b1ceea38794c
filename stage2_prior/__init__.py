"""Stage 2: a prior over the codes of stage 1."""

from stage2_prior.model import Prior, PriorConfig
from stage2_prior.speech_model import SpeechPrior, SpeechPriorConfig

__all__ = ["Prior", "PriorConfig", "SpeechPrior", "SpeechPriorConfig"]
