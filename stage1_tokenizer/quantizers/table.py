"""Trained tables of codes: what methods share that differ in their losses and in their upkeep."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stage1_tokenizer.quantizers.flat import FlatQuantizer
from stage1_tokenizer.quantizers.start import drawn, new_table


class TableQuantizer(FlatQuantizer):
    """Codes are rows of a trained table; the config has `codebook_size` and `code_dim`."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        config = self.config
        self.table = nn.Parameter(new_table(config.codebook_size, config.code_dim, self.start))

    @property
    def start(self) -> str:
        """Of the table: N(0, 1), unless overridden."""
        return "normal"

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The table."""
        return self.table.float()


class StartedTableQuantizer(TableQuantizer):
    """The table starts as the config's key `start` says."""

    @property
    def start(self) -> str:
        """The key's value."""
        return self.config.start

    @torch.no_grad()
    def init_from(self, latents: Float[Tensor, "*b d"]) -> None:
        """With `start=data`, K of the vectors, at random."""
        if self.start == "data":
            flat = latents.reshape(-1, self.config.code_dim).float()
            self.table.copy_(drawn(flat, self.config.codebook_size))
