"""What the tokenizers of all modalities have in common."""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from common.hub import HubModel
from stage1_tokenizer.quantizers import Quantizer


class Tokenizer(HubModel):
    """An autoencoder with a quantizer in the middle."""

    quantizer: Quantizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the networks' weights."""
        return next(self.parameters()).dtype

    @contextlib.contextmanager
    def exactly(self) -> Iterator[None]:
        """Inside, networks compute in float32 whatever the autocast, so that codes never change by it.

        Raises ValueError for weights in half precision, whose codes would be others.
        """
        if self.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"a tokenizer in {self.dtype} would give other codes than in float32: call float() before encode"
            )
        with torch.autocast(self.device.type, enabled=False):
            yield

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The effective codebook."""
        return self.quantizer.codebook
