"""What quantizers share whose codebook is a fixed or trained basis under one learned map."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stage1_tokenizer.quantizers.flat import FlatQuantizer
from stage1_tokenizer.quantizers.maps import mapped


class MappedQuantizer(FlatQuantizer):
    """Vectors to the nearest row of a basis under a map. Every code moves when the map learns.

    A frozen basis is a persistent buffer: it belongs to the weights.
    """

    basis: Tensor

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.projection: nn.Module
        self._cache: tuple[list[Tensor], tuple[object, ...], Tensor] | None = None

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The effective codebook, in float32.

        In eval mode it is computed once, and again whenever the basis or the map are not what they were.
        """
        fresh = self.training or (torch.is_grad_enabled() and self.basis.requires_grad)
        if fresh or torch.compiler.is_compiling():  # a graph can't ask what it was made of
            return mapped(self.projection, self.basis)
        small = [p.detach() for p in self.projection.parameters()]
        state = (self.basis.data_ptr(), self.basis._version, self.basis.device)
        if self._cache is not None:
            values, known, codebook = self._cache
            if known == state and all(map(_same, values, small)):
                return codebook
        with torch.no_grad():
            codebook = mapped(self.projection, self.basis)
        self._cache = ([p.clone() for p in small], state, codebook)
        return codebook

    def lookup(self, codes: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """The code vectors of `codes`: rows of `codebook`, from integers alone.

        The gradient goes through these rows, not through all K.
        """
        if not self.training and not torch.is_grad_enabled():
            return F.embedding(codes, self.codebook)
        return mapped(self.projection, F.embedding(codes, self.basis))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
