"""What a prior must know of codes, and checks of codes that come from outside."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class CodeSpec:
    """What a prior must know of the codes of one position."""

    sizes: tuple[int, ...]
    """The alphabet of each code of a position: one for most quantizers, D of them for a residual one."""
    order: Literal["flat", "residual", "factorised"]
    """Whether codes are alone, refine each other, or are independent factors."""
    discrete: bool = True
    """False if the decoder is trained on latents that hold more than the codes, which are all that a prior sees."""

    @property
    def bits(self) -> float:
        """Information of one position when every code is equally likely."""
        return sum(math.log2(size) for size in self.sizes)

    @property
    def has_codes(self) -> bool:
        """False where a position has a single possible code: latents pass as they are."""
        return self.alphabet > 1

    @property
    def levels(self) -> int:
        """Codes of one position."""
        return len(self.sizes)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each level's alphabet begins when they are counted one after the other."""
        return tuple(sum(self.sizes[:level]) for level in range(self.levels))

    @property
    def alphabet(self) -> int:
        """The size of the alphabet that holds every level's codes: that of a flattened sequence."""
        return max(self.sizes)


def check_form(codes: object, spec: CodeSpec, *dims: str) -> Int[Tensor, "..."]:
    """The codes, in 64 bits. Raises ValueError for what is no tensor of integers with these dimensions, such as "b",
    "h", "w", and one more for levels."""
    wanted = [*dims, str(spec.levels)] if spec.levels > 1 else dims
    found = type(codes).__name__
    if isinstance(codes, Tensor):
        found = f"{codes.dtype} of shape {tuple(codes.shape)}".removeprefix("torch.")
        whole = not codes.is_floating_point() and not codes.is_complex()
        if whole and codes.ndim == len(wanted):
            return codes.long()
    raise ValueError(f"codes must be a tensor of integers ({', '.join(wanted)}), and are {found}")


def check_codes(codes: Int[Tensor, "..."], spec: CodeSpec) -> None:
    """Raises ValueError for codes of another number of levels, or outside their alphabets.

    Reading the codes waits for the device once, so only codes from outside are checked, not those from `encode`.
    Under torch.compile or export this does nothing.
    """
    if torch.compiler.is_compiling():
        return
    if spec.levels > 1 and codes.shape[-1] != spec.levels:
        raise ValueError(
            f"codes of shape {tuple(codes.shape)}: the last dimension must be the {spec.levels} codes "
            "of one position"
        )
    if not codes.numel():
        return
    per_level = codes.reshape(-1, spec.levels)
    bounds = torch.stack([per_level.amin(0), per_level.amax(0)]).cpu().tolist()
    for size, least, most in zip(spec.sizes, *bounds, strict=True):
        if not 0 <= least <= most < size:
            raise ValueError(f"codes from {least} to {most} must lie in 0 to {size - 1}")
