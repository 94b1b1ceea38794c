"""What a modality must implement for training and encoding, and the list of modalities.

To add one, put the two classes in training.py and encode.py of a folder beside images/ and speech/, and name them in
MODALITIES.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from datasets import Features
from torch import Tensor, nn

from stage1_tokenizer.batches import Batch, Item
from stage1_tokenizer.data import ItemDataset, Row
from stage1_tokenizer.images.encode import ImageEncoding
from stage1_tokenizer.images.training import ImageTraining
from stage1_tokenizer.quantizers import Quantized
from stage1_tokenizer.speech.encode import SpeechEncoding
from stage1_tokenizer.speech.training import SpeechTraining
from stage1_tokenizer.tokenizer import Tokenizer


@runtime_checkable
class ModalityTraining(Protocol):
    """What a modality brings to the training of a tokenizer: data, networks, losses, examples."""

    config_class: type[Any]
    """A TrainTokenizerConfig with the modality's own keys."""
    items: str
    """What the log counts per second."""
    discriminator: nn.Module | None

    def __init__(self, config: Any, device: torch.device) -> None: ...

    @property
    def train_set(self) -> ItemDataset: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def batches(
        self, accelerator: Accelerator, *, batch_size: int, seed: int, done: int, workers: int
    ) -> Iterator[Batch]:
        """Endless batches of this process, on its device, after `done` items of all processes.

        `batch_size` is over all processes. Beside its tensors a batch has `epoch`, the names of the items that
        are `bad`, and how many were `unfit`.
        """

    def latents(self, batch: Batch) -> Tensor:
        """The encoder's output for a batch as vectors (n, d), from which the codebook is initialised."""

    def generator_losses(
        self, model: nn.Module, batch: Batch, adversary: nn.Module | None
    ) -> tuple[dict[str, Tensor], Tensor, Quantized]:
        """The weighted losses of encoder, decoder and quantizer; the reconstructions; what was quantized."""

    def discriminator_loss(self, discriminator: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        """The discriminator's loss on a batch and its reconstructions."""

    def evaluate(self) -> dict[str, float]:
        """Metrics of held-out items: `heldout/*` of reconstructions from codes alone, `latents/*`."""

    def evaluate_constant(self) -> dict[str, float]:
        """`constant/*`: the reconstruction metric of the best output that is the same for all items."""

    def describe(self) -> str:
        """The data set, its classes, and the bits per position and per image or second."""

    def save_examples(self, path: Path) -> None:
        """Writes held-out originals and reconstructions to `path` with a suffix, or to a folder of that name."""


@runtime_checkable
class ModalityEncoding(Protocol):
    """What a modality brings to encode: the tokenizer, the items, and the columns of their codes."""

    config_class: type[Any]
    """An EncodeConfig with the modality's own keys."""

    def __init__(self, config: Any, device: torch.device) -> None: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def splits(self) -> Mapping[str, ItemDataset]: ...

    @property
    def layout(self) -> dict[str, Any]:
        """What manifest.json says of this modality's codes: their order, their rate."""

    @property
    def columns(self) -> Features:
        """The columns of a shard beside item, view and label: `codes`, and this modality's own."""

    def views(self, split: str) -> tuple[str, ...]:
        """The views of each item of a split."""

    def load(self, split: str, row: Row) -> Item:
        """One item, decoded. Raises BadItemError."""

    def encode(self, split: str, items: list[Item]) -> dict[str, list[Any]]:
        """`columns` of a batch of items, an entry for each view of each item."""


class Modality(NamedTuple):
    """How a tokenizer of such items is trained, and how they are encoded."""

    training: type[ModalityTraining]
    encoding: type[ModalityEncoding]


MODALITIES: dict[str, Modality] = {
    "images": Modality(ImageTraining, ImageEncoding),
    "speech": Modality(SpeechTraining, SpeechEncoding),
}
"""By the key `modality` of a config."""
