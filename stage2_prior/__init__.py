"""Stage 2: a prior over the codes of stage 1."""

from stage2_prior.config import PriorConfig
from stage2_prior.depth import DepthPrior
from stage2_prior.model import Prior
