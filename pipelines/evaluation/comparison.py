"""A set of items beside the real ones, by each extractor's features: what scores of images and of speech share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

from pipelines.evaluation.extractors import NO_CLASSIFIER
from pipelines.evaluation.features import Features, Network, References
from pipelines.evaluation.fidelity import Classifier, distance, label_accuracy, metric_name
from pipelines.evaluation.table import Metrics, Unavailable


@dataclass(frozen=True)
class Comparison(Generic[Network]):
    """The features of a set of items, and the real items by the same extractor."""

    features: Features
    real: References[Network]


def distances(
    by_extractor: Sequence[Comparison[Any]], against: Literal["train", "held-out"]
) -> Metrics:
    """The Frechet distance of a set to real items, by each extractor's features."""
    metrics: Metrics = {}
    for each in by_extractor:
        real = each.real.train if against == "train" else each.real.heldout
        key = metric_name("FID", each.real.extractor, against)
        metrics[key] = distance(each.features, real, each.real.extractor)
    return metrics


def label_accuracies(
    by_extractor: Sequence[Comparison[Any]], classes: tuple[str, ...], first_name: str
) -> Metrics:
    """The share of a set that each classifier gives its label, of `classes`; the first metric is called `first_name`."""
    metrics: Metrics = {}
    for each in by_extractor:
        extractor = each.real.extractor
        if isinstance(extractor, Classifier) and extractor.classes:
            name = f"label accuracy ({extractor.name})" if metrics else first_name
            metrics[name] = label_accuracy(extractor, each.features, classes)
    missing = NO_CLASSIFIER if classes else Unavailable("there are no labels")
    return metrics or {first_name: missing}
