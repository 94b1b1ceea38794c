"""SimVQ: a codebook C W + b of a frozen random basis C and one learned linear map (arXiv 2411.02038)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from stage1_tokenizer.quantizers.estimators import rotation_trick, straight_through
from stage1_tokenizer.quantizers.mapped import MappedQuantizer
from stage1_tokenizer.quantizers.maps import mapped, match_moments, new_map
from stage1_tokenizer.quantizers.wasserstein import gaussian_wasserstein


@dataclass(frozen=True, kw_only=True)
class SimVQConfig:
    """The codebook, and the options of its training."""

    method: Literal["simvq"] = "simvq"
    """The key by which a file says which quantizer it is for."""
    codebook_size: int = 1024
    """Number of codes, K."""
    code_dim: int = 128
    """Dimension of one code vector, d (128 for the paper's images, 512 for its speech)."""
    map: Literal["full", "diagonal", "scalar", "mlp", "none"] = "full"
    """What takes C to the codes: W; a weight for each dimension; one for all; a network of two layers; or
    nothing, so that C itself is the codebook."""
    bias: bool = True
    """The b of C W + b, as in the authors' code; without it the codes can't follow a drifting mean."""
    beta: float = 0.25
    """Pull of the codes on the encoder, relative to the pull of the encoder on the codes (Algorithm 1)."""
    weight: float = 1.0
    """Weight of both pulls in the total loss; the paper has 1 for images. A larger one fills a large
    codebook sooner."""
    rescale: bool = True
    """Start W and b from the mean and scale of the encoder's first batch. The authors' codes start about
    four times too small, which StableVQ names as a cause of collapse; False is the paper's start."""
    train_basis: bool = False
    """Train C too, with its own learning rate `basis_lr` (the authors' README: "can work as well")."""
    gram_penalty: float = 0.0
    """Weight of the mean squared off-diagonal entry of the Gram matrix of the normalised codebook's
    columns, which keeps its dimensions apart (DimVQ; 1e-3 there). It reads all K codes in each step."""
    w2_penalty: float = 0.0
    """Weight, beside the pulls, of the Gaussian Wasserstein distance between the latents of this process
    and all K codes (arXiv 2506.15078). It reads all K codes in each step."""
    rotation: bool = False
    """The rotation trick (arXiv 2410.06424) in place of the straight-through estimator. Reports on its
    use with SimVQ disagree, hence off."""

    def __post_init__(self) -> None:
        if self.codebook_size < 2 or self.code_dim < 1:
            raise ValueError(
                f"codebook_size={self.codebook_size} and code_dim={self.code_dim} must be at least 2 and 1: "
                "set model.quantizer.codebook_size or model.quantizer.code_dim"
            )


class SimVQ(MappedQuantizer):
    """Vectors to the nearest of K codes, and back. Every code moves when the one linear map learns.

    The key `map` has more and less than the paper's linear layer, for comparison.
    """

    config_class = SimVQConfig
    config: SimVQConfig

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        config = self.config
        basis = torch.randn(config.codebook_size, config.code_dim) * config.code_dim**-0.5
        if config.train_basis:
            self.basis = nn.Parameter(basis)
        else:
            self.register_buffer("basis", basis)
        self.projection = new_map(config.map, config.code_dim, config.bias)

    def losses(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Both pulls (Algorithm 1), and the penalties that are on."""
        config = self.config
        losses = super().losses(latents, chosen)
        if config.gram_penalty:
            losses["gram"] = config.gram_penalty * off_diagonal_gram(self._every_code())
        if config.w2_penalty:
            distance = gaussian_wasserstein(latents.flatten(0, 1), self._every_code())
            losses["w2"] = config.weight * config.w2_penalty * distance
        return losses

    def estimated(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        """`chosen` in value, with the gradient of the key `rotation`."""
        estimator = rotation_trick if self.config.rotation else straight_through
        return estimator(latents, chosen)

    @torch.no_grad()
    def init_from(self, latents: Float[Tensor, "*b d"]) -> None:
        """Gives the codes the mean and the spread of `latents`, where `rescale` is on."""
        if self.config.rescale:
            flat = latents.reshape(-1, self.config.code_dim).float()
            match_moments(self.projection, self.basis, flat)

    def _every_code(self) -> Float[Tensor, "k d"]:
        return mapped(self.projection, self.basis)  # with a gradient in eval mode too


def off_diagonal_gram(codebook: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
    """Mean squared off-diagonal entry of the d x d Gram matrix of the row-normalised codebook (DimVQ)."""
    rows = F.normalize(codebook, dim=1)
    gram = rearrange(rows, "k d -> d k") @ rows
    d = gram.shape[0]
    return (gram.square().sum() - gram.diagonal().square().sum()) / max(d * (d - 1), 1)
