"""What every quantizer takes and gives: vectors in, codes and losses out."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count
from stage1_tokenizer.quantizers.estimators import ESTIMATORS
from stage1_tokenizer.quantizers.losses import codebook_and_commitment_loss
from stage1_tokenizer.quantizers.search import nearest


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
        """The size of the alphabet that holds every level's codes: that of a flattened sequence."""
        return max(self.sizes)


def check_codes(codes: Int[Tensor, "..."], spec: CodeSpec) -> None:
    """Raises ValueError for codes of another number of levels, or outside their alphabets.

    It waits once for the device of the codes: what comes from outside is checked, what `encode` gave is not.
    """
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
            raise ValueError(
                f"codes from {least} to {most}: this tokenizer has codes from 0 to {size - 1}"
            )


@dataclass(frozen=True, kw_only=True)
class CustomQuantizerConfig:
    """The base of the config of a quantizer outside this package; a subclass gives both a default."""

    method: str
    """The import path of the `Quantizer` class, such as `my_module.MyQuantizer`."""
    code_dim: Count
    """Dimension of one code vector, d: the encoder's output channels."""


@dataclass
class Quantized:
    """The result of a quantizer's forward."""

    latents: Float[Tensor, "b n d"]
    """The code vectors, with the gradient estimator's path to the encoder."""
    codes: Int[Tensor, "b n *levels"]
    losses: dict[str, Float[Tensor, ""]]
    """Named scalars, already weighted."""
    inputs: Float[Tensor, "m d"]
    """The vectors that were quantized, detached, without padding: what `accumulate` takes."""
    input_codes: Int[Tensor, "m *levels"] | None = None
    """Their codes; `codes` in one list, unless given."""

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
    keyword arguments are those of `config_class`, a frozen dataclass.
    """

    config_class: ClassVar[type[Any]]
    config: Any

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.config = self.config_class(**options)

    @property
    def spec(self) -> CodeSpec:
        """What a prior must know: one code per position out of K, unless overridden."""
        return CodeSpec(sizes=(self.config.codebook_size,), order="flat")

    @property
    @abstractmethod
    def codebook(self) -> Float[Tensor, "k d"]:
        """The vectors that codes stand for, in float32; of a residual quantizer, its first level's."""

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses; float32 throughout, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.encode(latents)
            chosen = self.lookup(codes)
            losses, estimated = self.losses(latents, chosen), self.estimated(latents, chosen)
            return Quantized(estimated, codes, losses, latents.detach().flatten(0, 1))

    def losses(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted codebook and commitment loss, unless overridden."""
        return codebook_and_commitment_loss(latents, chosen, self.config.weight, self.config.beta)

    def estimated(
        self, latents: Float[Tensor, "b n d"], chosen: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        """The chosen vectors, with the gradient to the latents that the key `estimator` names, unless overridden."""
        return ESTIMATORS[self.config.estimator](latents, chosen)

    @torch.no_grad()
    def encode(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "..."]:
        """Codes alone, of any number of vectors, without gradient: the nearest, unless overridden."""
        return nearest(latents, self.codebook)

    def lookup(self, codes: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The vectors of `codes`, from integers alone, in value those of `forward`: entries of the codebook,
        unless overridden."""
        return F.embedding(codes, self.codebook)

    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, "m *levels"]) -> None:
        """Takes in a batch: what was quantized, and to which codes. Nothing, unless overridden."""

    def after_step(self) -> None:
        """Changes the state by what was accumulated. Nothing, unless overridden."""

    def init_from(self, latents: Float[Tensor, "*b d"]) -> None:
        """An initialization from the first batch of all processes. Nothing, unless overridden."""


class StepCounter(nn.Module):
    """The number of optimizer steps so far, on which random choices and schedules depend.

    It is saved with the weights. `value` is read without waiting for the device, `steps` is a tensor there.
    """

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))
        self.value = 0
        self.register_load_state_dict_post_hook(_read_value)

    def advance(self) -> None:
        """One step more."""
        self.value += 1
        self.steps.fill_(self.value)


def _read_value(counter: StepCounter, _: object) -> None:
    counter.value = int(counter.steps)
