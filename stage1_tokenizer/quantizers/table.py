"""A trained table of codes, the nearest row chosen: what methods with losses of their own have in common."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stage1_tokenizer.quantizers.base import CodeSpec, Quantizer
from stage1_tokenizer.quantizers.search import nearest


class TableQuantizer(Quantizer):
    """Codes are rows of a table that starts from N(0, 1); the config has `codebook_size` and `code_dim`."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.table = nn.Parameter(torch.randn(self.config.codebook_size, self.config.code_dim))

    @property
    def spec(self) -> CodeSpec:
        """One code per position out of K."""
        return CodeSpec(sizes=(self.config.codebook_size,), order="flat")

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The table."""
        return self.table.float()

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """Codes alone, of any number of vectors, without gradient."""
        flat = latents.reshape(-1, self.config.code_dim)
        return nearest(flat, self.codebook).reshape(latents.shape[:-1])

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Rows of the table."""
        return F.embedding(codes, self.codebook)
