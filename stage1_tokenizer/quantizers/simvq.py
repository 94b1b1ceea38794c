"""SimVQ: a codebook C W + b of a frozen random basis C and one learned linear map (arXiv 2411.02038)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import AtLeastTwo, Count, NonNegative
from stage1_tokenizer.quantizers.base import Quantizer, keywords_of
from stage1_tokenizer.quantizers.estimators import rotation_trick, straight_through
from stage1_tokenizer.quantizers.losses import gaussian_wasserstein
from stage1_tokenizer.quantizers.projection import build_projection, match_moments, project


@dataclass(frozen=True, kw_only=True)
class SimVQConfig:
    """The codebook, and the options of its training.

    >>> SimVQ(SimVQConfig(codebook_size=64, code_dim=8)).codebook.shape
    torch.Size([64, 8])
    """

    method: Literal["simvq"] = "simvq"
    """The key by which a file says which quantizer it is for."""
    codebook_size: AtLeastTwo = 1024
    """Number of codes, K."""
    code_dim: Count = 128
    """Dimension of one code vector, d (128 for the paper's images, 512 for its speech)."""
    map: Literal["full", "diagonal", "scalar", "mlp", "none"] = "full"
    """How C is mapped to the codes: by the matrix W, a weight per dimension, one weight for all, a two-layer
    network, or not at all (C is the codebook)."""
    bias: bool = True
    """The b of C W + b, as in the authors' code; without it the codes can't follow a drifting mean."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss relative to the codebook loss (Algorithm 1)."""
    weight: NonNegative = 1.0
    """Weight of codebook and commitment loss in the total loss; the paper has 1 for images. A larger one
    fills a large codebook sooner."""
    rescale: bool = True
    """Initialize W and b from the mean and scale of the encoder's first batch. The authors' codes begin about
    four times too small, which StableVQ names as a cause of collapse; False is the paper's initialization."""
    train_basis: bool = False
    """Train C too, with its own learning rate `basis_lr` (the authors' README: "can work as well")."""
    gram_penalty: NonNegative = 0.0
    """Weight of DimVQ's penalty, the mean squared off-diagonal entry of the d x d Gram matrix of the normalised
    codes, which keeps dimensions apart (1e-3 in DimVQ)."""
    w2_penalty: NonNegative = 0.0
    """Weight, relative to the codebook loss, of the Gaussian Wasserstein distance between the latents of this
    process and all K codes (arXiv 2506.15078). Both penalties read all K codes in each step."""
    rotation: bool = False
    """The rotation trick (arXiv 2410.06424) in place of the straight-through estimator. Reports on its
    use with SimVQ disagree, hence off."""


class SimVQ(Quantizer):
    """Vectors to the nearest of K codes c_k W + b, and back. All codes move together, because W and b are shared.

    Algorithm 1 of the paper is `Quantizer.quantize`: k = argmin |z - (c_k W + b)| (`encode`), the vector of code k
    (`lookup`), the losses, and the straight-through gradient (`estimated`). C is `basis`, saved with the weights;
    W and b are `projection`, for which `map` offers other maps.

        >>> quantizer = SimVQ(codebook_size=1024, code_dim=16)
        >>> grid = torch.randn(2, 16, 8, 8)
        >>> quantizer.init_from(grid.movedim(1, -1))  # once, or quantizer.attach(optimizer)
        >>> latents, codes, loss = quantizer(grid, channels_first=True)
        >>> latents.shape, codes.shape, loss.shape
        (torch.Size([2, 16, 8, 8]), torch.Size([2, 8, 8]), torch.Size([]))
        >>> torch.equal(quantizer.lookup(codes), latents.movedim(1, -1))
        True
    """

    config_class = SimVQConfig
    config: SimVQConfig
    basis: Tensor

    @keywords_of(SimVQConfig)
    def __init__(self, *given: SimVQConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        basis = torch.randn(config.codebook_size, config.code_dim) * config.code_dim**-0.5
        if config.train_basis:
            self.basis = nn.Parameter(basis)
        else:
            self.register_buffer("basis", basis)
        self.projection = build_projection(config.map, config.code_dim, config.bias)

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The effective codebook C W + b, in float32."""
        return project(self.projection, self.basis)

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """The code vectors c_k W + b, from integers alone.

        The gradient goes through the chosen entries of C, not through all K.
        """
        return project(self.projection, F.embedding(codes, self.basis))

    def losses(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> dict[str, Float[Tensor, ""]]:
        """`codebook`, which trains W and b (and C, with `train_basis`); `commitment`, which trains the encoder;
        and the penalties that are on."""
        config = self.config
        losses = {
            "codebook": config.weight * F.mse_loss(chosen, latents.detach()),
            "commitment": config.weight * config.beta * F.mse_loss(latents, chosen.detach()),
        }
        if config.gram_penalty:
            losses["gram"] = config.gram_penalty * off_diagonal_gram(self.codebook)
        if config.w2_penalty:
            distance = gaussian_wasserstein(latents.flatten(0, 1), self.codebook)
            losses["w2"] = config.weight * config.w2_penalty * distance
        return losses

    def estimated(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        """The chosen vectors, with the gradient straight through to the latents, or by the rotation trick."""
        return (rotation_trick if self.config.rotation else straight_through)(latents, chosen)

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """Gives the codes the mean and the spread of `vectors`, where `rescale` is on."""
        if self.config.rescale:
            match_moments(self.projection, self.basis, vectors)


def off_diagonal_gram(codebook: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
    """Mean squared off-diagonal entry of the d x d Gram matrix of the normalised code vectors (DimVQ)."""
    vectors = F.normalize(codebook, dim=1)
    gram = vectors.T @ vectors
    d = gram.shape[0]
    return (gram.square().sum() - gram.diagonal().square().sum()) / max(d * (d - 1), 1)
