"""VQ: a table of codes, each trained by the gradient of the vectors that choose it (arXiv 1711.00937)."""

from dataclasses import dataclass
from typing import Literal

from stage1_tokenizer.quantizers.estimators import Estimator
from stage1_tokenizer.quantizers.table import StartedTableQuantizer


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """The codebook, and the options of its training."""

    method: Literal["vq"] = "vq"
    codebook_size: int = 1024
    """Number of codes, K."""
    code_dim: int = 64
    """Dimension of one code vector, d."""
    beta: float = 0.25
    """Pull of the codes on the encoder, relative to the pull of the encoder on the codes."""
    weight: float = 1.0
    """Weight of both pulls in the total loss."""
    start: Literal["normal", "uniform", "data"] = "normal"
    """Of the table: N(0, 1); uniform in +-1/K as in VQGAN; or vectors of the first batch."""
    estimator: Estimator = "straight-through"
    """`rotation` is the rotation trick (arXiv 2410.06424)."""


class VQ(StartedTableQuantizer):
    """Vectors to the nearest row of a trained table. Only rows that are chosen learn."""

    config_class = VQConfig
    config: VQConfig
