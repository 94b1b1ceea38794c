"""LC: a frozen codebook of features under one trained projector (VQGAN-LC, arXiv 2406.11837)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from common.bounds import Count, NonNegative
from stage1_tokenizer.quantizers.base import Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import k_means
from stage1_tokenizer.quantizers.estimators import Estimator
from stage1_tokenizer.quantizers.projection import match_moments, project


@dataclass(frozen=True, kw_only=True)
class LCConfig:
    """The features, the projector, and the weights of the two losses."""

    method: Literal["lc"] = "lc"
    codebook_size: Count = 1024
    """Number of codes, K: the features of the file (100,000 in the paper)."""
    code_dim: Count = 8
    """Dimension of one code vector, d. The paper's projections of the latents to few dimensions and back
    are the encoder's last and the decoder's first layer."""
    features: str | None = None
    """A safetensors file with a tensor "features" of K x m, read when training starts and then part of
    the weights. Without one, they are centres of the first batch's latents."""
    feature_dim: Count | None = None
    """Dimension of a feature of the file, m (768 in the paper); without a file it is d."""
    rescale: bool = True
    """Initialize the projector from the mean and scale of the first batch, if the features are from a file; False is
    the paper's initialization."""
    beta: NonNegative = 3.0
    """Weight of the commitment loss relative to the codebook loss; the authors' code has 1 and 0.33."""
    weight: NonNegative = 0.033
    """Weight of codebook and commitment loss in the total loss; by default 0.1 for commitment, 0.033 for codebook."""
    estimator: Estimator = "straight-through"
    """`rotation` is the rotation trick (arXiv 2410.06424)."""

    def __post_init__(self) -> None:
        if (self.features is None) != (self.feature_dim is None):
            raise ValueError(
                f"features={self.features} and feature_dim={self.feature_dim} must both be given or "
                "neither: set model.quantizer.features and model.quantizer.feature_dim"
            )


class LC(Quantizer):
    """Vectors to the nearest of K codes P(f_k), and back: features f_k are frozen, the linear projector P learns.

    The f_k are `basis`, P is `projection`; without a file P begins as the identity.
    """

    config_class = LCConfig
    config: LCConfig
    basis: Tensor

    @keywords_of(LCConfig)
    def __init__(self, *given: LCConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        dim = config.feature_dim or config.code_dim
        self.register_buffer("basis", torch.randn(config.codebook_size, dim))
        self.projection = nn.Linear(dim, config.code_dim)
        if config.features is None:
            self.start_from_identity()
        else:
            nn.init.normal_(self.projection.weight, std=config.code_dim**-0.5)
            nn.init.zeros_(self.projection.bias)

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The projected features, in float32."""
        return project(self.projection, self.basis)

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Entries of the codebook; only these are projected."""
        return project(self.projection, F.embedding(codes, self.basis))

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """The features of the file, or centres of `vectors`."""
        if self.config.features is None:
            self.basis.copy_(k_means(vectors, self.config.codebook_size))
            self.start_from_identity()
            return
        self.basis.copy_(read_features(Path(self.config.features).expanduser(), self.basis.shape))
        if self.config.rescale:
            match_moments(self.projection, self.basis, vectors)

    def start_from_identity(self) -> None:
        """Makes the codebook the features themselves."""
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)


def read_features(path: Path, shape: torch.Size) -> Tensor:
    """The tensor "features" of a safetensors file. Raises ValueError for another file or another shape."""
    if not path.is_file():
        raise ValueError(
            f"{path} is not a file: set model.quantizer.features to a safetensors file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            features = file.get_tensor("features") if "features" in names else None
    except SafetensorError as error:
        raise ValueError(
            f"{path} can't be read ({error}): set model.quantizer.features to a safetensors file"
        ) from None
    if features is None:
        raise ValueError(f'{path} has no tensor "features": model.quantizer.features needs one')
    if features.shape != shape:
        raise ValueError(
            f"{path} has features of shape {tuple(features.shape)}, not {tuple(shape)}: set "
            "model.quantizer.codebook_size to the first and model.quantizer.feature_dim to the second"
        )
    return features
