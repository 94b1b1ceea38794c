"""Distances between sets of items by their features: torch-fidelity's, most by its own functions."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from tqdm.auto import tqdm

from common.hub import replaced_folder, sha256
from common.seeding import epoch_order
from pipelines.evaluation.images.data import Batch, picture_batches
from pipelines.evaluation.images.extractors import Extractor
from pipelines.evaluation.table import Number
from stage1_tokenizer.images.data import ImageDataset

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
NEIGHBOURHOOD = 3
"""Precision and recall: the radius of a picture reaches its third neighbour."""
ROWS = 1000
"""ImageDataset whose distances from all others are held at once."""
MOST_FOR_PRECISION = 10_000
"""ImageDataset of a side that precision and recall, quadratic in them, are computed from."""
SPLITS, SMALLEST_SPLIT = 10, 100
"""Inception score: ten parts, or one where they would be smaller."""


class Source(Protocol):
    """Where features come from, whatever of: what every number says of it."""

    name: str
    sha256: str
    """Of the weights."""
    published: bool
    """True for the network and the weights that FID and inception score are defined with."""


@dataclass(frozen=True)
class Features:
    """What an extractor says about a set of items, on the CPU."""

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


def extract(extractor: Extractor, batches: Iterator[Batch]) -> Features:
    """The features of all pictures; only they, not the pictures, are held in memory."""
    shown = tqdm(batches, desc=f"features of {extractor.name}", leave=False, disable=None)
    parts = [(*extractor.extract(b.images), b.indices, b.labels) for b in shown]
    features, logits, indices, labels = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return Features(features.float(), logits.float(), indices, labels)


def reference(
    name: str, pictures: ImageDataset, extractor: Extractor, batch_size: int, cache: Path
) -> Reference:
    """The features of a split and their statistics, from the cache if they are there.

    The cache's key is the data (config and fingerprint), the size and the extractor's weights.
    """
    key = {
        "split": name,
        "data": asdict(pictures.config),
        "fingerprint": pictures.fingerprint,
        "channels": pictures.channels,
        "size": pictures.size,
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
    }
    return cached_reference(
        name, key, cache, lambda: extract(extractor, picture_batches(pictures, batch_size))
    )


def cached_reference(
    name: str, key: dict[str, Any], cache: Path, make: Callable[[], Features]
) -> Reference:
    """The features that `make` gives and their statistics, from the cache if `key` is there."""
    text = json.dumps(key, indent=2)
    folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not folder.exists():
        made = make()
        with replaced_folder(folder) as partial:
            (partial / "key.json").write_text(text + "\n")
            save_file(vars(made), partial / "features.safetensors")
            np.savez(partial / "statistics.npz", **statistics(made))
    with np.load(folder / "statistics.npz", allow_pickle=False) as saved:
        known = {"mu": saved["mu"], "sigma": saved["sigma"]}
    features = Features(**load_file(folder / "features.safetensors"))
    return Reference(name, features, known, sha256(folder / "statistics.npz"))


def statistics(features: Features) -> dict[str, Any]:
    """`mu` and `sigma` of the features, in float64."""
    return fid_features_to_statistics(features.features.double())


def frechet_distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Frechet distance between two Gaussians of given `mu` and `sigma`."""
    return fid_statistics_to_metric(a, b, verbose=False)[KEY_METRIC_FID]


def metric_name(metric: str, extractor: Source) -> str:
    """The metric's usual name where the published Inception made it, else one that names the extractor."""
    return metric if extractor.published else f"{metric.replace('FID', 'FD')}({extractor.name})"


def distance(made: Features, real: Reference, extractor: Source) -> Number:
    """FID, or the Frechet distance by the other extractor's name."""
    count, dimensions = min(len(made), len(real.features)), made.features.shape[1]
    biased = f"biased upwards: {count} items are not more than the {dimensions} dimensions"
    return Number(
        value=frechet_distance(statistics(made), real.statistics),
        note=biased if count <= dimensions else None,
        **provenance(made, real, extractor),
    )


def kernel_distance(made: Features, real: Reference, extractor: Source, seed: int) -> Number:
    """KID: unbiased, hence at times a little below 0."""
    size = min(KID_SUBSET_SIZE, len(made), len(real.features))
    found = kid_features_to_metric(
        made.features.double(), real.features.features.double(), kid_subsets=KID_SUBSETS,
        kid_subset_size=size, rng_seed=seed, verbose=False,
    )  # fmt: skip
    return Number(
        value=found["kernel_inception_distance_mean"],
        spread=found["kernel_inception_distance_std"],
        note=f"± over {KID_SUBSETS} random subsets of {size}, no confidence interval",
        **provenance(made, real, extractor),
    )


def precision_recall(
    made: Features, real: Reference, extractor: Source, seed: int
) -> tuple[Number, Number]:
    """Share of the made items near a real one, and of the real ones near a made one (k = 3)."""
    sides = []
    for features in (made.features, real.features.features):
        chosen = epoch_order(len(features), seed, epoch=0)[:MOST_FOR_PRECISION]
        sides.append(features[chosen])
    precision, recall = coverage(*sides)
    about = provenance(made, real, extractor)
    about |= {"count": len(sides[0]), "reference_count": len(sides[1])}
    return Number(value=precision, **about), Number(value=recall, **about)


def coverage(made: Float[Tensor, "n f"], real: Float[Tensor, "m f"]) -> tuple[float, float]:
    """Share of the made features within the radius of a real one, and of the real ones within a made one's.

    torch-fidelity's numbers, with each distance between the two sets computed once in place of twice.
    """
    made_radii, real_radii = radii(made), radii(real)
    precise = []
    recalled = torch.zeros(len(real), dtype=torch.bool)
    for rows, own in zip(made.split(ROWS), made_radii.split(ROWS), strict=True):
        distances = torch.cdist(rows, real)
        precise.append((distances <= real_radii).any(1))
        recalled |= (distances <= own[:, None]).any(0)
    return float(torch.cat(precise).double().mean()), float(recalled.double().mean())


def radii(features: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
    """The distance of each to its third neighbour among them."""
    found = [
        # the first is itself; `topk` selects few of many ten times as fast as `kthvalue`
        torch.cdist(rows, features).topk(NEIGHBOURHOOD + 1, largest=False).values[:, -1]
        for rows in features.split(ROWS)
    ]
    return torch.cat(found)


def inception_score(made: Features, extractor: Source, seed: int) -> Number:
    """Inception score: how sure and how varied the predicted classes are."""
    splits = SPLITS if len(made) >= SPLITS * SMALLEST_SPLIT else 1
    found = isc_features_to_metric(made.logits, splits=splits, shuffle=True, rng_seed=seed)
    return Number(
        value=found["inception_score_mean"],
        spread=found["inception_score_std"] if splits > 1 else None,
        note=f"± over {splits} parts" if splits > 1 else "in one part",
        **provenance(made, None, extractor),
    )


def nearest(
    made: Features, real: Features, neighbours: int = 1
) -> tuple[Float[Tensor, "n m"], Int[Tensor, "n m"]]:
    """Distances from each item's features to the nearest real ones, and their places in the source."""
    rows = [
        torch.cdist(part, real.features).topk(neighbours, largest=False).indices
        for part in made.features.split(256)
    ]
    places = torch.cat(rows)
    # cdist cancels digits near 0, where a copy would show: the distance is computed anew
    offsets = made.features[:, None] - real.features[places]
    return offsets.norm(dim=-1), real.indices[places]


def nearest_distance(made: Features, real: Reference, extractor: Source) -> Number:
    """The mean distance from an item to the nearest training item."""
    distances = nearest(made, real.features)[0]
    return Number(
        value=float(distances.mean()),
        spread=float(distances.std()),
        note="± over the items; far below the held-out value, samples are copies",
        **provenance(made, real, extractor),
    )


def provenance(made: Features, real: Reference | None, extractor: Source) -> dict[str, Any]:
    """The fields of a Number that say what it was computed from."""
    about = {
        "count": len(made),
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
    }
    if real is not None:
        about |= {
            "reference": real.name,
            "reference_count": len(real.features),
            "reference_sha256": real.sha256,
        }
    return about
