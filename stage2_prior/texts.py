"""Texts as conditions: a vector for each character."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def spelled(text: str, characters: str, padding: Sequence[int]) -> Int[Tensor, " p"]:
    """The characters of a text as entries of condition_embedding, after as much of `padding` as makes its length.

    Raises ValueError for a text that is too long or has an unknown character.
    """
    unknown = sorted(set(text) - set(characters))
    if unknown:
        raise ValueError(
            f"text {text!r} has the character {unknown[0]!r}: this prior knows {characters!r} (change texts)"
        )
    if len(text) > len(padding):
        raise ValueError(
            f"text {text!r} has {len(text)} characters: this prior was trained on up to {len(padding)} "
            "(shorten texts)"
        )
    return torch.tensor([*padding[len(text) :], *map(characters.index, text)])
