"""What every quantizer takes and gives: vectors in, codes and losses out."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn


@dataclass(frozen=True)
class CodeSpec:
    """What a prior must know of the codes of one position."""

    sizes: tuple[int, ...]
    """The alphabet of each code of a position: one for most quantizers, D of them for a residual one."""
    order: Literal["flat", "residual", "factorised"]
    """Whether codes are alone, refine each other, or are independent factors."""
    discrete: bool = True
    """False where codes are all that a prior sees but not all that the decoder sees in training."""

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
        """The size of the alphabet that holds every level's codes: what a flattened row is drawn from."""
        return max(self.sizes)


def check_codes(codes: Int[Tensor, "..."], spec: CodeSpec) -> None:
    """Raises ValueError for codes of another number of levels, or outside their alphabets."""
    if spec.levels > 1 and codes.shape[-1] != spec.levels:
        raise ValueError(
            f"codes of shape {tuple(codes.shape)}: the last dimension must be the {spec.levels} codes "
            "of one position"
        )
    per_level = codes if spec.levels > 1 else codes[..., None]
    for level, size in enumerate(spec.sizes):
        part = per_level[..., level]
        if part.numel() and not 0 <= int(part.min()) <= int(part.max()) < size:
            raise ValueError(
                f"codes from {int(part.min())} to {int(part.max())}: this tokenizer has codes from 0 to "
                f"{size - 1}"
            )


@dataclass
class Quantized:
    """The result of a quantizer's forward."""

    latents: Float[Tensor, "b n d"]
    """The chosen vectors, with the gradient estimator's path to the encoder."""
    codes: Int[Tensor, "b n *levels"]
    losses: dict[str, Float[Tensor, ""]]
    """Named scalars, already weighted."""
    inputs: Float[Tensor, "m d"]
    """The vectors that were quantized, detached, without padding: what `accumulate` wants."""
    input_codes: Int[Tensor, "m *levels"] | None = None
    """Their codes; `codes` in one row unless given."""

    def __post_init__(self) -> None:
        if self.input_codes is None:
            self.input_codes = self.codes.flatten(0, 1)

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of `losses`."""
        return sum(self.losses.values(), start=self.latents.new_zeros(()))


class Quantizer(nn.Module, ABC):
    """Vectors to codes and back; every method keeps these names.

    `forward` changes no state. A method with statistics of its own gathers them in `accumulate`, once per
    batch, and changes its state in `after_step`, once per optimizer step, alike on all processes. The
    keyword arguments are those of `config_class`.
    """

    config_class: ClassVar[type[Any]]

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.config = self.config_class(**options)

    @property
    @abstractmethod
    def spec(self) -> CodeSpec:
        """What a prior must know."""

    @property
    @abstractmethod
    def codebook(self) -> Float[Tensor, "k d"]:
        """The vectors that codes stand for, in float32; of a residual quantizer, its first level's."""

    @abstractmethod
    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses; float32 throughout, whatever the autocast."""

    @abstractmethod
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "..."]:
        """Codes alone, of any number of vectors, without gradient."""

    @abstractmethod
    def lookup(self, codes: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The vectors of `codes`, from integers alone: in value those of `forward`."""

    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, "m *levels"]) -> None:
        """Takes note of a batch: what was quantized, and to which codes. Nothing, unless overridden."""

    def after_step(self) -> None:
        """Changes the state by what was noted. Nothing, unless overridden."""

    def init_from(self, latents: Float[Tensor, "*b d"]) -> None:
        """A start that depends on the first batch of all processes. Nothing, unless overridden."""


@torch.no_grad()
def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes, itself on one; whether there are several is asked at each call."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


@torch.no_grad()
def gather_over_processes(rows: Shaped[Tensor, "n *d"]) -> Shaped[Tensor, "m *d"]:
    """The rows of all processes, the same everywhere; each process gives equally many."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def first_of_processes(values: Tensor) -> Tensor:
    """The values of the first process, everywhere: for what should be alike but is summed in any order."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(values, src=0)
    return values
