"""SimVQ: a codebook C W + b of a frozen random basis C and one learned linear map (arXiv 2411.02038)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer
from stage1_tokenizer.quantizers.estimators import rotation_trick, straight_through
from stage1_tokenizer.quantizers.losses import two_pulls
from stage1_tokenizer.quantizers.search import nearest


@dataclass(frozen=True, kw_only=True)
class SimVQConfig:
    """The codebook, and the options of its training."""

    method: Literal["simvq"] = "simvq"
    """The key by which a file says which quantizer it is for."""
    codebook_size: int = 1024
    """Number of codes, K."""
    code_dim: int = 128
    """Dimension of one code vector, d (128 for the paper's images, 512 for its speech)."""
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
    rotation: bool = False
    """The rotation trick (arXiv 2410.06424) in place of the straight-through estimator. Reports on its
    use with SimVQ disagree, hence off."""

    def __post_init__(self) -> None:
        if self.codebook_size < 2 or self.code_dim < 1:
            raise ValueError(
                f"codebook_size={self.codebook_size} and code_dim={self.code_dim} must be at least 2 and 1: "
                "set model.quantizer.codebook_size or model.quantizer.code_dim"
            )


class SimVQ(Quantizer):
    """Vectors to the nearest of K codes, and back. Every code moves when the one linear map learns.

    C is a persistent buffer: it belongs to the weights.
    """

    config_class = SimVQConfig
    config: SimVQConfig
    basis: Tensor

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        config = self.config
        basis = torch.randn(config.codebook_size, config.code_dim) * config.code_dim**-0.5
        if config.train_basis:
            self.basis = nn.Parameter(basis)
        else:
            self.register_buffer("basis", basis)
        self.projection = nn.Linear(config.code_dim, config.code_dim, bias=config.bias)
        self._cache: tuple[list[Tensor], tuple[object, ...], Tensor] | None = None

    @property
    def spec(self) -> CodeSpec:
        """One code per position out of K."""
        return CodeSpec(sizes=(self.config.codebook_size,), order="flat")

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The effective codebook C W + b, in float32.

        In eval mode it is computed once, and again whenever C, W or b are not what they were.
        """
        if self.training or (torch.is_grad_enabled() and self.config.train_basis):
            return self._project(self.basis)
        small = [p.detach() for p in self.projection.parameters()]
        state = (self.basis.data_ptr(), self.basis._version, self.basis.device)
        if self._cache is not None:
            values, known, codebook = self._cache
            if known == state and all(map(_same, values, small)):
                return codebook
        with torch.no_grad():
            codebook = self._project(self.basis)
        self._cache = ([p.clone() for p in small], state, codebook)
        return codebook

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses (Algorithm 1); float32 throughout, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.encode(latents)
            chosen = self.lookup(codes)  # the gradient goes through these N rows, not through all K
            losses = two_pulls(latents, chosen, self.config.weight, self.config.beta)
            if self.config.gram_penalty:
                losses["gram"] = self.config.gram_penalty * off_diagonal_gram(
                    self._project(self.basis)
                )
            estimator = rotation_trick if self.config.rotation else straight_through
            return Quantized(
                estimator(latents, chosen), codes, losses, latents.detach().flatten(0, 1)
            )

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """Codes alone, of any number of vectors, without gradient."""
        flat = latents.reshape(-1, self.config.code_dim)
        return nearest(flat, self.codebook.detach()).reshape(latents.shape[:-1])

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """The code vectors of `codes`: rows of `codebook`, from integers alone."""
        if not self.training and not torch.is_grad_enabled():
            return F.embedding(codes, self.codebook)
        return self._project(F.embedding(codes, self.basis))

    @torch.no_grad()
    def init_from(self, latents: Float[Tensor, "*b d"]) -> None:
        """Scales W, and sets b, so that the codes have the mean and the spread of `latents`.

        Without a bias only the scale is set. Does nothing when the option `rescale` is off.
        """
        if not self.config.rescale:
            return
        flat = latents.reshape(-1, self.config.code_dim).float()
        spread = F.linear(self.basis, self.projection.weight).std(0).square().mean().sqrt()
        wanted = flat.std(0).square().mean().sqrt()
        self.projection.weight.mul_(wanted / spread.clamp_min(1e-12))
        if self.config.bias:
            centre = F.linear(self.basis, self.projection.weight).mean(0)
            self.projection.bias.copy_(flat.mean(0) - centre)

    def _project(self, rows: Float[Tensor, "*k d"]) -> Float[Tensor, "*k d"]:
        with torch.autocast(rows.device.type, enabled=False):
            bias = None if self.projection.bias is None else self.projection.bias.float()
            return F.linear(rows.float(), self.projection.weight.float(), bias)


def off_diagonal_gram(codebook: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
    """Mean squared off-diagonal entry of the d x d Gram matrix of the row-normalised codebook (DimVQ)."""
    rows = F.normalize(codebook, dim=1)
    gram = rearrange(rows, "k d -> d k") @ rows
    d = gram.shape[0]
    return (gram.square().sum() - gram.diagonal().square().sum()) / max(d * (d - 1), 1)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
