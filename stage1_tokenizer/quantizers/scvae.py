"""SC-VAE: latents as sums of few atoms of a fixed dictionary, found by learned ISTA (arXiv 2303.16666)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count, NonNegative
from common.precision import float32_products
from common.processes import gather_over_processes
from stage1_tokenizer.quantizers.assignments import NO_BATCH, refuse_half
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.chunks import scores_at_once
from stage1_tokenizer.quantizers.spec import CodeSpec, check_codes


@dataclass(frozen=True, kw_only=True)
class SCVAEConfig:
    """The dictionary, the search for sparse coefficients, and how a prior sees them."""

    method: Literal["scvae"] = "scvae"
    code_dim: Count = 64
    """Dimension of the latents and of an atom, d (256 in the paper)."""
    atoms: Count = 512
    """Size of the dictionary."""
    iterations: Count = 16
    """Steps of ISTA, T (16 for ImageNet, 30 for FFHQ)."""
    sparsity: NonNegative = 0.1
    """The lambda of |z - D s|^2 / 2 + lambda |s|_1: a larger one leaves fewer coefficients."""
    weight: NonNegative = 1.0
    """Weight of the squared error |z - D s|^2, which trains latents z and coefficients s."""
    kept: Count = 4
    """Coefficients of a position that are coded, each as two codes: its atom and its value."""
    values: Count = 15
    """Number of values that a coded coefficient can have; odd, because zero is one of them."""

    def __post_init__(self) -> None:
        if self.values < 3 or self.values % 2 == 0:
            raise ValueError(
                f"values={self.values} must be odd and at least 3: set model.quantizer.values"
            )
        if self.kept > self.atoms:
            raise ValueError(
                f"kept={self.kept} must be from 1 to the {self.atoms} atoms: set model.quantizer.kept or "
                "model.quantizer.atoms"
            )


class SCVAE(Quantizer):
    """Vectors to sparse coefficients s. The decoder gets their sum of atoms D s, unrounded, with ordinary gradients.

    A prior sees only the `kept` largest coefficients, the largest first, each rounded to one of `values` steps between
    plus and minus the running largest coefficient. So its samples hold less than the decoder had in training.

    Different from the paper: the dictionary is the over-complete cosine transform of one dimension, not of
    two; of ISTA the step size alone is learned; and the weight of the loss is the same at all positions.
    """

    config_class = SCVAEConfig
    config: SCVAEConfig
    dictionary: Tensor
    largest: Tensor
    averaged_buffers = ("largest",)
    DECAY = 0.99
    """Decay of the running largest coefficient."""

    @keywords_of(SCVAEConfig)
    def __init__(self, *given: SCVAEConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        self.register_buffer("dictionary", cosines(self.config.atoms, self.config.code_dim))
        self.register_buffer("largest", torch.ones(()))
        curvature = torch.linalg.matrix_norm(self.dictionary, 2).square()
        self.log_curvature = nn.Parameter(curvature.log())
        self._largest: list[Tensor] = []

    @property
    def spec(self) -> CodeSpec:
        """An atom and a value for each coefficient that is kept; the decoder's training sees all."""
        pair = self.config.atoms, self.config.values
        return CodeSpec(sizes=pair * self.config.kept, order="factorised", discrete=False)

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The atoms, in float32."""
        return self.dictionary.float()

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """The sums of atoms D s with all coefficients, also in eval mode, and codes of the largest coefficients.

        `coding` is the mean |z - D s|^2, which trains both z and s.
        """
        coefficients = self.coefficients(latents)
        sums = coefficients @ self.codebook
        losses = {"coding": self.config.weight * F.mse_loss(sums, latents)}
        codes = self._coded(coefficients.detach())
        return Quantized(sums, codes, losses, latents.detach().flatten(0, 1))

    def coefficients(self, latents: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """T steps of s <- soft(s + D'(z - D s) / c, lambda / c) from zero, c learned, at first |D|^2."""
        dictionary = self.dictionary.to(latents.dtype)
        step = torch.exp(-self.log_curvature.to(latents.dtype))
        sparse = latents.new_zeros(*latents.shape[:-1], self.config.atoms)
        with float32_products():
            for _ in range(self.config.iterations):
                left = latents - sparse @ dictionary
                sparse = soft_threshold(
                    sparse + step * (left @ dictionary.T), step * self.config.sparsity
                )
        return sparse

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b levels"]:
        """Codes: atom, value, atom, value, ..."""
        if torch.compiler.is_exporting():  # a graph for any number of vectors has no chunks
            return self._coded(self.coefficients(latents))
        flat = latents.reshape(-1, self.config.code_dim)
        size = max(scores_at_once(flat.device) // self.config.atoms, 1)
        codes = [self._coded(self.coefficients(part)) for part in flat.split(size)]
        return torch.cat(codes).reshape(*latents.shape[:-1], self.spec.levels)

    def lookup(self, codes: Int[Tensor, "*b levels"]) -> Float[Tensor, "*b d"]:
        """The sum that the codes alone tell of. Raises ValueError for codes outside their alphabets."""
        check_codes(codes, self.spec)
        atoms, values = codes[..., 0::2], codes[..., 1::2]
        middle = self.config.values // 2
        coefficients = (values - middle) * (self.largest.float() / middle)
        return (coefficients[..., None] * F.embedding(atoms, self.codebook)).sum(-2)

    @torch.no_grad()
    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, "m levels"]) -> None:
        """Takes in how large coefficients are."""
        with torch.autocast(inputs.device.type, enabled=False):
            self._largest.append(self.coefficients(inputs.float()).abs().amax())

    @torch.no_grad()
    def after_step(self) -> None:
        """Moves the largest coefficient of late towards that of the step, of all processes.

        Raises ValueError for half precision, and without a batch.
        """
        refuse_half(self.largest.dtype)
        if not self._largest:
            raise ValueError(NO_BATCH)
        mine = torch.stack(self._largest).amax()
        largest = gather_over_processes(mine.reshape(1, 1)).amax().to(self.largest)
        self.largest.lerp_(largest.where(largest.isfinite(), self.largest), 1 - self.DECAY)
        self._largest = []

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """The largest coefficient of the first batch."""
        self.largest.copy_(self.coefficients(vectors).abs().amax().clamp_min(1e-6))

    def _coded(self, coefficients: Float[Tensor, "*b k"]) -> Int[Tensor, "*b levels"]:
        atoms = coefficients.abs().topk(self.config.kept).indices
        middle = self.config.values // 2
        values = coefficients.gather(-1, atoms) * (middle / self.largest.float())
        values = values.round().long().clamp(-middle, middle)
        atoms = atoms.masked_fill(values == 0, 0)  # a prior need not guess which atom is absent
        return torch.stack([atoms, values + middle], -1).flatten(-2)


def cosines(atoms: int, code_dim: int) -> Float[Tensor, "k d"]:
    """Unit vectors cos(pi j k / K) over j, each but the first without its mean."""
    grid = torch.outer(torch.arange(atoms), torch.arange(code_dim)).double()
    vectors = torch.cos(math.pi / atoms * grid)
    vectors[1:] -= vectors[1:].mean(1, keepdim=True)
    return F.normalize(vectors, dim=1).float()


def soft_threshold(
    values: Float[Tensor, "*b k"], threshold: Float[Tensor, ""]
) -> Float[Tensor, "*b k"]:
    """Each value brought nearer to zero by the threshold, or to zero (soft thresholding)."""
    return values - values.clamp(-threshold, threshold)
