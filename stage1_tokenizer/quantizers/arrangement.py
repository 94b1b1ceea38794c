"""Latents of any layout, with or without a mask, to lists of vectors and back."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

PADDING = -1
"""Stands for the code of a position that a mask leaves out."""


class Arrangement(NamedTuple):
    """Where the vectors of a batch stand, and which of them count."""

    places: tuple[int, ...]
    """Batch size, then the positions along each dimension, such as (8, 16, 16)."""
    channels_first: bool
    inside: Int[Tensor, " m"] | None
    """The places that count, of all places of the batch; None for all."""

    def vectors(self, latents: Float[Tensor, "b ..."]) -> Float[Tensor, "items n d"]:
        """The vectors in order; with a mask those that count alone, as one item."""
        flat = latents.movedim(1, -1) if self.channels_first else latents
        if self.inside is None:
            return flat.flatten(1, -2)
        return flat.flatten(0, -2).index_select(0, self.inside)[None]

    def restored(self, vectors: Float[Tensor, "items n d"]) -> Float[Tensor, "b ..."]:
        """The vectors where they came from, zeros where the mask has left one out."""
        if self.inside is not None:
            full = vectors.new_zeros((math.prod(self.places), vectors.shape[-1]))
            vectors = full.index_copy(0, self.inside, vectors[0])
        arranged = vectors.reshape(*self.places, -1)
        return arranged.movedim(-1, 1) if self.channels_first else arranged

    def restored_codes(self, codes: Int[Tensor, "items n *levels"]) -> Int[Tensor, "b ..."]:
        """The codes where their vectors came from, -1 where the mask has left one out."""
        flat = codes.flatten(0, 1)
        if self.inside is not None:
            full = flat.new_full((math.prod(self.places), *flat.shape[1:]), PADDING)
            flat = full.index_copy(0, self.inside, flat)
        return flat.reshape(*self.places, *codes.shape[2:])


def check_vectors(latents: Tensor, code_dim: int) -> None:
    """Raises ValueError for latents that do not hold vectors of `code_dim` in their last dimension."""
    shape = tuple(latents.shape)
    if shape[-1:] != (code_dim,):
        raise ValueError(
            f"latents of shape {shape} must have the shape (..., d), with d = code_dim = {code_dim}"
        )


def arrangement(
    latents: Tensor, code_dim: int, channels_first: bool, mask: Tensor | None
) -> Arrangement:
    """How latents are arranged. Raises ValueError for a shape that does not hold vectors of `code_dim`, and for
    a mask that does not fit it."""
    shape = tuple(latents.shape)
    own, other = (1, -1) if channels_first else (-1, 1)
    if len(shape) < 3 or shape[own] != code_dim:
        form = "(b, d, ...)" if channels_first else "(b, ..., d)"
        swapped = len(shape) > 2 and shape[other] == code_dim
        raise ValueError(
            f"latents of shape {shape} must have the shape {form}, with d = code_dim = {code_dim} and at least one dimension more"
            + (f": say channels_first={not channels_first}" if swapped else "")
        )
    if not latents.numel():
        raise ValueError(f"latents of shape {shape} hold no vectors: leave out empty batches")
    places = (shape[0], *shape[2:]) if channels_first else shape[:-1]
    if mask is None:
        return Arrangement(places, channels_first, None)
    # looked at once: each such look waits for a GPU
    inside = mask.flatten().nonzero().squeeze(1) if mask.dtype == torch.bool else mask[:0]
    if tuple(mask.shape) != places or not len(inside):
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} and type {mask.dtype} must have the shape {places} and type torch.bool, "
            "true where a vector counts, and somewhere true"
        )
    return Arrangement(places, channels_first, inside)
