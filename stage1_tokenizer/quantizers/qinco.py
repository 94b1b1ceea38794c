"""QINCo: residual quantization whose codebooks are made by networks from what is known so far (arXiv 2401.14732)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.seeding import generator_at
from stage1_tokenizer.quantizers.refining import RefiningQuantizer, check_levels
from stage1_tokenizer.quantizers.search import TILE, nearest
from stage1_tokenizer.quantizers.start import drawn


@dataclass(frozen=True, kw_only=True)
class QINCoConfig:
    """The codebooks, the networks that change them, and the options of their training."""

    method: Literal["qinco"] = "qinco"
    codebook_size: int = 256
    """Number of codes of each level, K."""
    code_dim: int = 64
    """Dimension of the latents, d."""
    levels: int = 4
    """Codes of one position, each of which refines those before it; M in the paper."""
    hidden: int = 256
    """Width inside the residual blocks of the networks, h."""
    blocks: int = 2
    """Residual blocks of each network, L. Encoding costs N x K passes through each of them."""
    beta: float = 0.25
    """Pull of the last level's sum on the encoder, relative to the pull of the encoder on each sum."""
    weight: float = 1.0
    """Weight of all pulls in the total loss."""

    def __post_init__(self) -> None:
        check_levels(self.levels, self.codebook_size)


class ConditionalCode(nn.Module):
    """f(c, x): the vector that a code of a level stands for when the levels before it add up to x.

    v = c + A c + B x + b, then v + W2 relu(W1 v) block after block (section 3). A, B, b and W2 start at
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


class QINCo(RefiningQuantizer):
    """Vectors to one code per level, each the best addition to those before it.

    Different from the paper: the vectors are an encoder's, which a commitment term keeps near; they are not
    rescaled; the codebooks start as residuals of the first batch, where the paper has those of a trained
    residual quantizer.
    """

    config_class = QINCoConfig
    config: QINCoConfig

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
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

    def losses(
        self, latents: Float[Tensor, "b n d"], sums: list[Float[Tensor, "b n d"]]
    ) -> dict[str, Float[Tensor, ""]]:
        """`codebook` is the sum over levels of |sg z - x_m|^2, `commitment` beta |z - sg x_M|^2.

        The gradient of a level reaches those before it. Squares are means over all elements.
        """
        pulls = [F.mse_loss(part, latents.detach()) for part in sums]
        commitment = F.mse_loss(latents, sums[-1].detach())
        return {
            "codebook": self.config.weight * torch.stack(pulls).sum(),
            "commitment": self.config.weight * self.config.beta * commitment,
        }

    @torch.no_grad()
    def init_from(self, latents: Float[Tensor, "*b d"]) -> None:
        """Each level starts with what the levels before it leave of the vectors, drawn at random."""
        left = latents.reshape(-1, self.config.code_dim).float()
        for level, table in enumerate(self.tables):
            table.copy_(drawn(left, self.config.codebook_size, generator_at(0, level)))
            left = left - F.embedding(nearest(left, table), table)

    def vectors(
        self, level: int, codes: Int[Tensor, "*b"], sums: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b d"]:
        """Rows of the level's table, after the first changed by its network."""
        rows = F.embedding(codes, self.tables[level].float())
        return self.networks[level - 1](rows, sums) if level else rows

    def best(
        self, level: int, wanted: Float[Tensor, "n d"], sums: Float[Tensor, "n d"]
    ) -> Int[Tensor, " n"]:
        """The code whose vector is nearest to what is wanted, of equal ones the lowest.

        The vectors of all K codes for all N sums never exist at once: a running minimum over tiles.
        """
        table = self.tables[level].float()
        if level == 0:
            return nearest(wanted, table)
        width = max(self.config.code_dim, self.config.hidden)
        pairs = max(TILE.get(wanted.device.type, 2**22) // width, 1)
        columns = min(len(table), pairs)
        rows = pairs // columns
        found = []
        for part, beside in zip(wanted.split(rows), sums.split(rows), strict=True):
            least = part.new_full((len(part),), torch.inf)
            codes = torch.zeros(len(part), dtype=torch.int64, device=part.device)
            for start in range(0, len(table), columns):
                vectors = self.networks[level - 1](table[start : start + columns], beside[:, None])
                distances = (vectors - part[:, None]).square().sum(-1)
                values, places = distances.min(1)
                better = values < least
                least = torch.where(better, values, least)
                codes = torch.where(better, places + start, codes)
            found.append(codes)
        return torch.cat(found)
