"""Features of sets of items: what an extractor makes of them, with those of real items kept in a cache."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from datasets import IterableDataset
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics

from common.files import is_sealed, only_one, replaced_folder, sha256
from common.seeding import epoch_order
from common.tensors import write_tensors
from stage1_tokenizer.images.data import ImageDataset
from stage1_tokenizer.speech.data import SpeechDataset

DECODING = 2
"""The version of how items are decoded and made as large as a network wants them: to be raised with a change of it."""
Data = TypeVar("Data", ImageDataset, SpeechDataset)
Network = TypeVar("Network", bound="Extractor", covariant=True)


class Extractor(Protocol):
    """A feature network, of whatever items: what every metric says of it."""

    name: str
    sha256: str
    """Of the weights."""
    published: bool
    """True for the network and the weights that FID and inception score are defined with."""


@dataclass(frozen=True)
class Features:
    """What an extractor makes of a set of items, on the CPU."""

    features: Float[Tensor, "n f"]
    logits: Float[Tensor, "n k"]
    indices: Int[Tensor, " n"]
    """Where the items stand in their source."""
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Reference:
    """A set of real items that others are compared with."""

    name: str
    features: Features
    statistics: dict[str, Any]
    """`mu` and `sigma` of the features."""
    sha256: str
    """Of the file statistics.npz that holds them."""


@dataclass(frozen=True)
class References(Generic[Network]):
    """An extractor, and the real items by its features."""

    extractor: Network
    train: Reference
    heldout: Reference

    @property
    def statistics_sha256(self) -> dict[str, str]:
        """The SHA-256 of either's statistics."""
        return {real.name: real.sha256 for real in (self.train, self.heldout)}


def limited(dataset: Data, count: int | None, seed: int) -> Data:
    """`count` of the items, chosen at random by the seed; all of them for None."""
    if count is None:
        return dataset
    rows: Any = dataset.rows
    if isinstance(rows, IterableDataset):
        shuffled = rows.shuffle(seed=seed, buffer_size=dataset.config.shuffle_buffer)
        chosen: Any = shuffled.take(count)
    else:
        chosen = rows.select(sorted(epoch_order(len(rows), seed, epoch=0)[:count].tolist()))
    return replace(dataset, rows=chosen, fingerprint=f"{dataset.fingerprint}:{count}:{seed}")


def cache_key(
    split: str, dataset: ImageDataset | SpeechDataset, extractor: Extractor, **shape: int
) -> dict[str, Any]:
    """All that the features of a split depend on; `shape` is what its items are decoded to.

    The fingerprint that `datasets` keeps of rows changes with any of the files that they were read from.
    """
    rows: Any = dataset.rows
    return {
        "split": split,
        "data": asdict(dataset.config),
        "fingerprint": dataset.fingerprint,
        "rows": None if isinstance(rows, IterableDataset) else rows._fingerprint,
        "decoding": DECODING,
        **shape,
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
    }


def cached_reference(
    name: str, key: dict[str, Any], cache: Path, extract: Callable[[], Features]
) -> Reference:
    """The features that `extract` gives and their statistics, from the cache if `key` is there and undamaged."""
    text = json.dumps(key, indent=2)
    folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not is_sealed(folder):
        with only_one(
            folder.with_name(f".{folder.name}.lock"), wait=True
        ):  # commands share the cache
            if not is_sealed(folder):
                fill(folder, text, extract())
    with np.load(folder / "statistics.npz", allow_pickle=False) as saved:
        gaussian = dict(saved)
    saved_features = load_file(folder / "features.safetensors")
    names = {field.name for field in fields(Features)}
    if (
        gaussian.keys() != {"mu", "sigma"}
        or saved_features.keys() != names
        or len({*map(len, saved_features.values())}) > 1
    ):
        raise ValueError(f"{folder} holds features of another version: remove it")
    features = Features(**saved_features)
    return Reference(name, features, gaussian, sha256(folder / "statistics.npz"))


def fill(folder: Path, key: str, features: Features) -> None:
    """Writes features, their statistics and the key that they depend on, whole or not at all."""
    with replaced_folder(folder) as partial:
        (partial / "key.json").write_text(key + "\n")
        write_tensors(vars(features), partial / "features.safetensors")
        np.savez(partial / "statistics.npz", **statistics(features))


def statistics(features: Features) -> dict[str, Any]:
    """`mu` and `sigma` of the features, in float64."""
    return fid_features_to_statistics(features.features.double())
