"""What the tokenizers of all modalities have in common."""

from jaxtyping import Float
from torch import Tensor

from common.hub import HubModel
from stage1_tokenizer.quantizers import Quantizer


class Tokenizer(HubModel):
    """An autoencoder with a quantizer in the middle."""

    quantizer: Quantizer

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The effective codebook."""
        return self.quantizer.codebook
