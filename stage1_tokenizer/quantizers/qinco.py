"""QINCo: residual quantization whose codebooks are made by networks from the sum so far (arXiv 2401.14732)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import AtLeastTwo, Count, NonNegative
from common.seeding import generator_at
from stage1_tokenizer.quantizers.base import Quantized, keywords_of
from stage1_tokenizer.quantizers.chunks import scores_at_once
from stage1_tokenizer.quantizers.codebook_init import left_over, sample_vectors
from stage1_tokenizer.quantizers.estimators import straight_through
from stage1_tokenizer.quantizers.projection import in_float32
from stage1_tokenizer.quantizers.residual import ResidualQuantizer
from stage1_tokenizer.quantizers.search import nearest


@dataclass(frozen=True, kw_only=True)
class QINCoConfig:
    """The codebooks, the networks that change them, and the options of their training."""

    method: Literal["qinco"] = "qinco"
    codebook_size: AtLeastTwo = 256
    """Number of codes of each level, K."""
    code_dim: Count = 64
    """Dimension of the latents, d."""
    levels: AtLeastTwo = 4
    """Codes of one position, each of which refines those before it; M in the paper."""
    hidden: Count = 256
    """Width inside the residual blocks of the networks, h."""
    blocks: Count = 2
    """Residual blocks of each network, L. Encoding costs N x K passes through each of them."""
    beta: NonNegative = 0.25
    """Weight of the commitment loss, of the last level's sum, relative to the codebook loss of each level."""
    weight: NonNegative = 1.0
    """Weight of all losses in the total loss."""


class ConditionalCode(nn.Module):
    """f(c, x): the vector that a code of a level stands for when the levels before it add up to x.

    v = c + A c + B x + b, then v + W2 relu(W1 v) block after block (section 3). A, B, b and W2 begin at
    zero, after QINCo2 (arXiv 2501.03078): at first the vector is c itself.
    """

    def __init__(self, code_dim: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.of_code = nn.Linear(code_dim, code_dim, bias=False)
        self.of_sum = nn.Linear(code_dim, code_dim)
        self.widen = nn.ModuleList(nn.Linear(code_dim, hidden, bias=False) for _ in range(blocks))
        self.narrow = nn.ModuleList(nn.Linear(hidden, code_dim, bias=False) for _ in range(blocks))
        for last in (self.of_code, self.of_sum, *self.narrow):
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.of_sum.bias)

    def forward(
        self, codes: Float[Tensor, "*#b d"], sums: Float[Tensor, "*#b d"]
    ) -> Float[Tensor, "*b d"]:
        """The vectors; codes and sums are broadcast against each other."""
        vectors = codes + self.of_code(codes) + self.of_sum(sums)
        for widen, narrow in zip(self.widen, self.narrow, strict=True):
            vectors = vectors + narrow(F.relu(widen(vectors)))
        return vectors


class QINCo(ResidualQuantizer):
    """Vectors to one code per level, each the best addition to those before it.

    Different from the paper: the vectors are an encoder's, which a commitment term keeps near; they are not
    rescaled; the codebooks begin as residuals of the first batch, where the paper has those of a trained
    residual quantizer.
    """

    config_class = QINCoConfig
    config: QINCoConfig

    @keywords_of(QINCoConfig)
    def __init__(self, *given: QINCoConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        shape = config.levels, config.codebook_size, config.code_dim
        self.tables = nn.Parameter(torch.randn(shape))
        self.networks = nn.ModuleList(
            ConditionalCode(config.code_dim, config.hidden, config.blocks)
            for _ in range(config.levels - 1)
        )

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The first level's, which depends on nothing."""
        return self.tables[0].float()

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, the last level's sums and the losses.

        `codebook` is the sum over levels of |sg z - x_m|^2, `commitment` beta |z - sg x_M|^2. The gradient of
        a level reaches those before it. Squares are means over all elements.
        """
        weight, beta = self.config.weight, self.config.beta
        codes = self.encode(latents)
        sums = self.sums(codes)
        estimated = straight_through(latents, sums[-1])
        each = [F.mse_loss(part, latents.detach()) for part in sums]
        losses = {
            "codebook": weight * torch.stack(each).sum(),
            "commitment": weight * beta * F.mse_loss(latents, sums[-1].detach()),
        }
        return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """Each level begins as what the levels before it leave of vectors, sampled at random."""
        for level, table in enumerate(self.tables):
            table.copy_(sample_vectors(vectors, self.config.codebook_size, generator_at(0, level)))
            vectors = left_over(vectors - F.embedding(nearest(vectors, table), table))

    def added(
        self, level: int, codes: Int[Tensor, "*b"], sums: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b d"]:
        """The level's code vectors, after the first level changed by its network."""
        vectors = F.embedding(codes, self.tables[level].float())
        return self._changed(level, vectors, sums) if level else vectors

    def best(
        self, level: int, left: Float[Tensor, "n d"], sums: Float[Tensor, "n d"]
    ) -> Int[Tensor, " n"]:
        """The code whose vector is nearest to what is left, of equal ones the lowest.

        The vectors of all K codes for all N sums never exist at once: a running minimum over tiles.
        """
        table = self.tables[level].float()
        if level == 0:
            return nearest(left, table)
        if torch.compiler.is_exporting():  # a graph for any number of vectors has no tiles
            vectors = self._changed(level, table, sums[:, None])
            return (vectors - left[:, None]).square().sum(-1).argmin(1)
        width = max(self.config.code_dim, self.config.hidden)
        pairs = max(scores_at_once(left.device) // width, 1)
        columns = min(len(table), pairs)
        best = []
        for part, beside in zip(*(x.split(pairs // columns) for x in (left, sums)), strict=True):
            least = part.new_full((len(part),), torch.inf)
            codes = torch.zeros(len(part), dtype=torch.int64, device=part.device)
            for first in range(0, len(table), columns):
                vectors = self._changed(level, table[first : first + columns], beside[:, None])
                distances = (vectors - part[:, None]).square().sum(-1)
                values, indices = distances.min(1)
                better = values < least
                least = torch.where(better, values, least)
                codes = torch.where(better, indices + first, codes)
            best.append(codes)
        return torch.cat(best)

    def _changed(
        self, level: int, codes: Float[Tensor, "*#b d"], sums: Float[Tensor, "*#b d"]
    ) -> Float[Tensor, "*b d"]:
        """What a level's network makes of codes."""
        return in_float32(self.networks[level - 1], codes, sums)
