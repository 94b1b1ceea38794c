"""A trained table of codes that starts from N(0, 1): what methods with losses of their own have in common."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stage1_tokenizer.quantizers.flat import FlatQuantizer


class TableQuantizer(FlatQuantizer):
    """Codes are rows of a table; the config has `codebook_size` and `code_dim`."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.table = nn.Parameter(torch.randn(self.config.codebook_size, self.config.code_dim))

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The table."""
        return self.table.float()
