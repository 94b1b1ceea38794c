"""What every quantizer takes and gives: vectors in, codes and losses out."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Concatenate, ParamSpec, get_type_hints

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from common.bounds import Count
from common.config import build
from stage1_tokenizer.quantizers.arrangement import arrangement, check_vectors
from stage1_tokenizer.quantizers.attached import Attachment
from stage1_tokenizer.quantizers.estimators import ESTIMATORS
from stage1_tokenizer.quantizers.losses import codebook_and_commitment_loss
from stage1_tokenizer.quantizers.search import nearest
from stage1_tokenizer.quantizers.spec import CodeSpec

Keys = ParamSpec("Keys")


@dataclass(frozen=True, kw_only=True)
class CustomQuantizerConfig:
    """The base of the config of a quantizer outside this package; a subclass gives both a default."""

    method: str
    """The import path of the `Quantizer` class, such as `my_module.MyQuantizer`."""
    code_dim: Count
    """Dimension of one code vector, d: the encoder's output channels."""


@dataclass
class Quantized:
    """The result of a quantizer's forward: `latents, codes, loss = quantizer(...)`, and more by name.

    >>> from stage1_tokenizer.quantizers import SimVQ
    >>> out = SimVQ(codebook_size=64, code_dim=8)(torch.randn(2, 5, 8))
    >>> latents, codes, loss = out
    >>> list(out.losses)
    ['codebook', 'commitment']
    """

    latents: Float[Tensor, "b ..."]
    """The code vectors, with the gradient estimator's path to the encoder; arranged as they were given."""
    codes: Int[Tensor, "b ..."]
    """One code per position, or one per level; -1 at positions that a mask leaves out, which `lookup` does not
    accept."""
    losses: dict[str, Float[Tensor, ""]]
    """Named scalars, already weighted."""
    inputs: Float[Tensor, "m d"]
    """The vectors that were quantized, detached, without padding: what `accumulate` takes."""
    input_codes: Int[Tensor, "m *levels"] | None = None
    """The codes of `inputs`; by default `codes` with the first two dimensions flattened."""

    def __post_init__(self) -> None:
        if self.input_codes is None:
            self.input_codes = self.codes.flatten(0, 1)

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of `losses`."""
        return sum(self.losses.values(), start=self.latents.new_zeros(()))

    def __iter__(self) -> Iterator[Tensor]:
        """Latents, codes and loss, in this order."""
        return iter((self.latents, self.codes, self.loss))


def keywords_of(
    config_class: Callable[Keys, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, Keys], None]]:
    """Gives an `__init__` the keywords of a config, for type checkers, editors and `help`."""

    def named(init: Callable[..., None]) -> Callable[Concatenate[Any, Keys], None]:
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        hints = get_type_hints(config_class)  # without the bounds, which are for files
        keys = inspect.signature(config_class).parameters.values()
        keywords = [key.replace(annotation=hints[key.name]) for key in keys]
        init.__signature__ = inspect.Signature([first, *keywords])  # type: ignore[attr-defined]
        return init

    return named


class Quantizer(nn.Module):
    """Vectors to codes and back: the interface of all quantizers.

    `forward` changes no state. A quantizer with statistics of its own gathers them in `accumulate`, once per
    batch, and changes its state in `after_step`, once per optimizer step, alike on all processes. Its constructor
    takes a `config_class`, a frozen dataclass, or the keywords of one.
    """

    config_class: ClassVar[type[Any]]
    config: Any
    table: Tensor
    loaded = False
    """Whether weights were loaded, which the first batch must not replace."""
    attachment: Attachment | None = None
    """Set by `attach`; a plain attribute, so that a compiled call notices when it is set later."""

    def __init__(self, *config: Any, **options: Any) -> None:
        super().__init__()
        if config and (len(config) > 1 or options or not isinstance(config[0], self.config_class)):
            kind = type(self).__name__
            raise ValueError(
                f"{kind} takes keywords, as in {kind}(code_dim=64), or one {self.config_class.__name__}"
            )
        # a config that is given is built again, which checks its bounds
        schema = type(config[0]) if config else self.config_class
        self.config = build(schema, vars(config[0]) if config else options)

    def __call__(
        self,
        latents: Float[Tensor, "b ..."],
        *,
        channels_first: bool = False,
        mask: Bool[Tensor, "b ..."] | None = None,
    ) -> Quantized:
        """Quantizes latents (b, ..., d), or (b, d, ...) with `channels_first`; the result keeps their layout.

        Vectors where `mask` (b, ...) is false are left out: their code is -1, their latent zero. Raises
        ValueError for latents of another dimension than `code_dim`, and for a mask that does not fit them.
        """
        given = arrangement(latents, self.config.code_dim, channels_first, mask)
        vectors = given.vectors(latents)
        attachment = self.attachment if self.training else None
        if attachment is not None:
            attachment.before_forward(self, vectors)
        out: Quantized = super().__call__(vectors)
        if attachment is not None:
            attachment.after_forward(out)
        if mask is None and latents.ndim == 3 and not channels_first:
            return out
        codes = given.restored_codes(out.codes)
        return replace(out, latents=given.restored(out.latents), codes=codes)

    def __getstate__(self) -> dict[str, Any]:
        """All but the attachment: a copy needs an optimizer of its own."""
        return {name: value for name, value in self.__dict__.items() if name != "attachment"}

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        self.loaded = self.loaded or any(name.startswith(prefix) for name in state)
        super()._load_from_state_dict(state, prefix, *others)

    @property
    def spec(self) -> CodeSpec:
        """What a prior must know: one code per position out of K, unless overridden."""
        return CodeSpec(sizes=(self.config.codebook_size,), order="flat")

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The vectors that codes stand for, in float32: `table`, unless overridden. A residual quantizer gives its
        first level's."""
        return self.table.float()

    def forward(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses; float32 throughout, whatever the autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.quantize(latents.float())

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, quantized latents and losses; may be overridden as a whole."""
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
        """The codes of any number of vectors, without gradient, as `choose` finds them in float32.

        Raises ValueError for latents of another dimension than `code_dim`.
        """
        check_vectors(latents, self.config.code_dim)
        with torch.autocast(latents.device.type, enabled=False):
            return self.choose(latents.float())

    def choose(self, latents: Float[Tensor, "*b d"]) -> Int[Tensor, "..."]:
        """The codes of vectors: the nearest, unless overridden."""
        return nearest(latents, self.codebook)

    def lookup(self, codes: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The vectors that `codes` stand for, equal in value to the latents of `forward`: entries of the codebook,
        unless overridden.

        Codes outside the alphabet are an error, which on a GPU ends the process: leave out padding (-1), as in
        `lookup(out.codes[mask])`.
        """
        return F.embedding(codes, self.codebook)

    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, "m *levels"]) -> None:
        """Takes in a batch: what was quantized, and to which codes. Nothing, unless overridden."""

    def after_step(self) -> None:
        """Changes the state by what was accumulated. Nothing, unless overridden."""

    @torch.no_grad()
    def init_from(self, latents: Float[Tensor, "..."], *, channels_first: bool = False) -> None:
        """Initialises the codes from latents (..., d), or (b, d, ...) with `channels_first`: the first batch, gathered
        from all processes. Runs without gradient in float32, and leaves out vectors that are not finite.

        Raises ValueError for latents of another dimension than `code_dim`, and where no vector is finite.
        """
        vectors = latents.movedim(1, -1) if channels_first else latents
        if vectors.shape[-1] != self.config.code_dim:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} with channels_first={channels_first}: d must be "
                f"code_dim={self.config.code_dim}"
            )
        vectors = vectors.reshape(-1, self.config.code_dim).float()
        finite = vectors[vectors.isfinite().all(1)]
        if not len(finite):
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} hold no finite vector: codes begin from at least one"
            )
        with torch.autocast(vectors.device.type, enabled=False):
            self.initialize(finite)

    def initialize(self, vectors: Float[Tensor, "n d"]) -> None:
        """What `init_from` makes of the vectors, which are finite and at least one. Nothing, unless overridden."""

    def start_from_table(self) -> None:
        """Brings averages in line with codes that are loaded. Nothing, unless overridden."""

    def attach(self, optimizer: Optimizer, *, resumed: bool = False) -> None:
        """Makes the quantizer call `init_from`, `accumulate` and `after_step` by itself in training mode.

            >>> from stage1_tokenizer.quantizers import EMA
            >>> quantizer, encoder = EMA(codebook_size=64, code_dim=8), torch.nn.Linear(3, 8)
            >>> optimizer = torch.optim.Adam(encoder.parameters())
            >>> quantizer.attach(optimizer)
            >>> for batch in torch.randn(10, 4, 5, 3):
            ...     latents, codes, loss = quantizer(encoder(batch))
            ...     loss.backward()
            ...     optimizer.step()
            ...     optimizer.zero_grad()

        It calls `init_from` before the first batch with a finite vector on every process. Codes loaded before or after
        attaching are kept instead, and averages start from them; with `resumed` averages go on as they were, too. All
        processes start from the first one's state. After each optimizer step it calls `accumulate` for every batch
        since the last step, then `after_step`. A forward without gradient counts as a batch only if `accumulate` is
        overridden. A later `attach` replaces this one without a new start; a copy of the quantizer is not attached.
        """
        earlier = self.attachment
        if earlier is not None:
            earlier.end()
        begun = resumed or (earlier is not None and earlier.begun)
        accumulates = type(self).accumulate is not Quantizer.accumulate
        self.attachment = Attachment(self, optimizer, begun, accumulates)
