"""Distances between sets of items by their features: torch-fidelity's, where it has them, by its own functions."""

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from common.seeding import epoch_order
from pipelines.evaluation.features import Extractor, Features, Reference, statistics
from pipelines.evaluation.kernels import biased_mmd, cubic, gaussian, median_distance, unbiased_mmd
from pipelines.evaluation.statistics_files import Statistics
from pipelines.evaluation.table import Metric, Unavailable, metric

NORMAL_95 = 1.96
"""Standard errors on either side of a value within which 95 % lie."""
NEIGHBOURHOOD = 3
"""Precision and recall: the radius of an item reaches its third neighbour."""
CHUNK = 1000
"""Items whose distances from all others are held at once."""
MOST_ITEMS = 10_000
"""Most items of a side for KID, CMMD, KAD, precision and recall, which are quadratic in them."""
SPLITS, SMALLEST_SPLIT = 10, 100
"""Inception score: ten parts, or one where they would be smaller."""
DINO = "dinov2-vit-l-14"
"""The network of FDD, the Frechet distance of arXiv 2306.04675."""
CLIP = "clip-vit-l-14-336px"
"""The network of CMMD (arXiv 2401.09603)."""
USUAL = {("FID", DINO): "FDD", ("CMMD", CLIP): "CMMD"}
"""Names of metrics that are defined with these networks."""
CMMD = gaussian(bandwidth=10)
CMMD_SCALE, KAD_SCALE = 1000, 100
"""What the squared distances are multiplied by, as in the authors' code."""
TOO_FEW = Unavailable("a covariance takes at least two items of either side")
JACKKNIFE = "± is half of the 95 % interval, by the jackknife over the items of both sides"


def frechet_distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Frechet distance between two Gaussians of given `mu` and `sigma`; what rounding takes below 0 is 0."""
    return max(fid_statistics_to_metric(a, b, verbose=False)[KEY_METRIC_FID], 0.0)


def metric_name(name: str, extractor: Extractor, against: str | None = None) -> str:
    """The metric's usual name, such as FID, if its own network made the features; else one with the extractor's name.

    `against` names what a distance is measured to.
    """
    named = name if extractor.published else f"{name.replace('FID', 'FD')}({extractor.name})"
    usual = USUAL.get((name, extractor.name), named)
    return usual if against is None else f"{usual} vs {against}"


def distance(items: Features, real: Reference, extractor: Extractor) -> Metric | Unavailable:
    """The Frechet distance of items to real ones by an extractor's features: FID for the published Inception."""
    count, dimensions = min(len(items), len(real.features)), items.features.shape[1]
    if count < 2:
        return TOO_FEW
    biased = f"biased upwards: {count} items are not more than the {dimensions} dimensions"
    return metric(
        value=frechet_distance(statistics(items), real.statistics),
        note=biased if count <= dimensions else None,
        **provenance(items, real, extractor),
    )


def distance_to_file(
    items: Features, file: Statistics, extractor: Extractor
) -> Metric | Unavailable:
    """FID, or the Frechet distance by the other extractor's name, to a Gaussian that a file holds."""
    if len(items) < 2:
        return TOO_FEW
    source = "" if file.extractor else "; the file does not say which network made it"
    return metric(
        value=frechet_distance(statistics(items), file.gaussian),
        note=f"to the mu and sigma of {file.path}{source}",
        **provenance(items, None, extractor)
        | {
            "reference": str(file.path),
            "reference_count": file.count,
            "reference_sha256": file.sha256,
        },
    )


def kernel_distance(
    items: Features, real: Reference, extractor: Extractor, seed: int
) -> Metric | Unavailable:
    """KID (arXiv 1801.01401): unbiased, so it may be below 0; one estimate from at most MOST_ITEMS items of a side."""
    x, y, about = chosen_sides(items, real, extractor, seed)
    value, error = unbiased_mmd(x.double(), y.double(), cubic)
    return metric(value=value, spread=NORMAL_95 * error, note=JACKKNIFE, **about)


def clip_distance(
    items: Features, real: Reference, extractor: Extractor, seed: int
) -> Metric | Unavailable:
    """CMMD (arXiv 2401.09603): by a Gaussian kernel on embeddings of unit length, each paired with itself too."""
    *sides, about = chosen_sides(items, real, extractor, seed)
    x, y = (F.normalize(side.double()) for side in sides)
    return metric(
        value=CMMD_SCALE * biased_mmd(x, y, CMMD),
        spread=CMMD_SCALE * NORMAL_95 * unbiased_mmd(x, y, CMMD)[1],
        note=JACKKNIFE,
        **about,
    )


def audio_distance(
    items: Features, real: Reference, extractor: Extractor, seed: int
) -> Metric | Unavailable:
    """KAD (arXiv 2502.15602): unbiased, by a Gaussian kernel as wide as the median distance of two real items."""
    *sides, about = chosen_sides(items, real, extractor, seed)
    x, y = (side.double() for side in sides)
    value, error = unbiased_mmd(x, y, gaussian(median_distance(y)))
    return metric(
        value=KAD_SCALE * value,
        spread=KAD_SCALE * NORMAL_95 * error,
        note=JACKKNIFE,
        **about,
    )


def chosen_sides(
    items: Features, real: Reference, extractor: Extractor, seed: int
) -> tuple[Float[Tensor, "n f"], Float[Tensor, "m f"], dict[str, Any]]:
    """The features of both sides, of very many those of MOST_ITEMS, and the fields of a Metric that say so."""
    both = items.features, real.features.features
    x, y = (side[epoch_order(len(side), seed, epoch=0)[:MOST_ITEMS]] for side in both)
    counts = {"count": len(x), "reference_count": len(y)}
    return x, y, provenance(items, real, extractor) | counts


def precision_recall(
    items: Features, real: Reference, extractor: Extractor, seed: int
) -> tuple[Metric | Unavailable, Metric | Unavailable]:
    """Share of the items near a real one, and of the real ones near an item (k = 3)."""
    x, y, about = chosen_sides(items, real, extractor, seed)
    if min(len(x), len(y)) <= NEIGHBOURHOOD:
        none = Unavailable(f"it takes more than {NEIGHBOURHOOD} items on either side")
        return none, none
    precision, recall = precision_recall_of_features(x, y)
    share = about | {"unit": "%"}
    return metric(value=precision, **share), metric(value=recall, **share)


def precision_recall_of_features(
    items: Float[Tensor, "n f"], real: Float[Tensor, "m f"]
) -> tuple[float, float]:
    """Share of the items within the radius of a real one, and of the real ones within an item's.

    torch-fidelity's values, with each distance between the two sets computed once in place of twice.
    """
    centre = real.mean(0)  # far from 0 products lose the digits that distances are of
    items, real = items - centre, real - centre
    item_radii, real_radii = radii(items), radii(real)
    precise = []
    recalled = torch.zeros(len(real), dtype=torch.bool)
    for chunk, own in zip(items.split(CHUNK), item_radii.split(CHUNK), strict=True):
        distances = torch.cdist(chunk, real)
        precise.append((distances <= real_radii).any(1))
        recalled |= (distances <= own[:, None]).any(0)
    return float(torch.cat(precise).double().mean()), float(recalled.double().mean())


def radii(features: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
    """The distance of each to its third neighbour among them."""
    distances = [
        # the first is itself; `topk` selects few of many ten times as fast as `kthvalue`
        torch.cdist(chunk, features).topk(NEIGHBOURHOOD + 1, largest=False).values[:, -1]
        for chunk in features.split(CHUNK)
    ]
    return torch.cat(distances)


def inception_score(items: Features, extractor: Extractor, seed: int) -> Metric | Unavailable:
    """Inception score: how sure and how varied the predicted classes are."""
    splits = SPLITS if len(items) >= SPLITS * SMALLEST_SPLIT else 1
    score = isc_features_to_metric(items.logits, splits=splits, shuffle=True, rng_seed=seed)
    return metric(
        value=score["inception_score_mean"],
        spread=score["inception_score_std"] if splits > 1 else None,
        note=f"± over {splits} parts" if splits > 1 else "in one part",
        **provenance(items, None, extractor),
    )


def nearest(
    items: Features, real: Features, neighbours: int = 1
) -> tuple[Float[Tensor, "n m"], Int[Tensor, "n m"]]:
    """Distances from each item's features to the nearest real ones, and their places in the source."""
    centre = real.features.mean(0)
    centred = real.features - centre
    parts = [
        torch.cdist(part - centre, centred).topk(neighbours, largest=False).indices
        for part in items.features.split(256)
    ]
    places = torch.cat(parts)
    # cdist cancels digits of the least distances, where a copy would show: the distance is computed anew
    offsets = items.features[:, None] - real.features[places]
    return offsets.norm(dim=-1), real.indices[places]


def nearest_distance(
    items: Features, real: Reference, extractor: Extractor
) -> Metric | Unavailable:
    """The mean distance from an item to the nearest training item."""
    distances = nearest(items, real.features)[0]
    return metric(
        value=float(distances.mean()),
        spread=float(distances.std()),
        note="± over the items; far below the held-out value, samples are copies",
        **provenance(items, real, extractor),
    )


def provenance(items: Features, real: Reference | None, extractor: Extractor) -> dict[str, Any]:
    """The fields of a Metric that say what it was computed from."""
    about = {"count": len(items), "extractor": extractor.name, "extractor_sha256": extractor.sha256}
    if real is not None:
        about |= {
            "reference": real.name,
            "reference_count": len(real.features),
            "reference_sha256": real.sha256,
        }
    return about


@runtime_checkable
class Classifier(Extractor, Protocol):
    """An extractor that also names classes."""

    classes: tuple[str, ...]
    """Empty where it has not learned any."""


def label_accuracy(
    classifier: Classifier, items: Features, classes: tuple[str, ...]
) -> Metric | Unavailable:
    """Share of the items that the classifier gives their label; `classes` are those of the labels."""
    if not classes:
        return Unavailable("there are no labels")
    if classes != classifier.classes:
        return Unavailable("the classifier was trained on other classes")
    correct = items.logits.argmax(1) == items.labels
    about = provenance(items, None, classifier)
    return metric(value=float(correct.double().mean()), unit="%", **about)
