"""Scoring images: as `simvq score` does it, beside torch-fidelity's `calculate_metrics`, by the same features.

Both read two samples.npz, of sampled and of real images, and give the Frechet distance, KID of all images in one
subset, precision, recall and the inception score. Features are those of a classifier like that of configs/cifar10.yaml with new
weights: Inception's are not at hand, and its forward would hide everything else. "Cached" says that the
features of the real images are in the cache of either.

The work is 20,000 forwards (5.2e11 operations), 10,000 x 10,000 distances in 128 dimensions, three times (7.7e10),
and KID's three products of 10,000 x 10,000 (7.7e10). Most of the other time went into each row's fourth smallest
distance: `kthvalue` takes longer to find it than the distances themselves take, `topk` does not. KID cubes 3e8
products, in float64 here and in float32 in torch-fidelity.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from benchmarks.side_by_side import Timing, alternate, report, weighed
from common.config import load_config
from common.processes import processes
from pipelines.evaluation.features import Features, cached_reference
from pipelines.evaluation.fidelity import (
    SMALLEST_SPLIT,
    SPLITS,
    distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from pipelines.evaluation.images.classifier import ImageClassifier, ImageClassifierConfig
from pipelines.evaluation.images.data import SampledImages
from pipelines.evaluation.images.extractors import ClassifierExtractor, extract
from pipelines.generation.image_samples import save_npz

SEED = 2020
"""torch-fidelity's own, of KID's subsets and of the order in the inception score."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of the table."""

    count: int = 10_000
    """Images of each kind."""
    side: int = 32
    """Of the images, in pixels."""
    width: int = 32
    """Of the classifier; there are four times as many features."""
    batch_size: int = 64
    rounds: int = 5
    memory: bool = True
    """Whether peak memory is measured, in a process for each way."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What both ways gave for the images, and how long it took them."""

    ours: dict[str, float]
    theirs: dict[str, float]
    timings: dict[str, Timing]
    added_gib: dict[str, float]


class SameFeatures(FeatureExtractorBase):
    """Our classifier, as torch-fidelity wants its extractors."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str, **_: Any
    ) -> None:
        super().__init__(name, features_list)
        self.classifier = ClassifierExtractor(
            Path(feature_extractor_weights_path), processes().device
        )

    @staticmethod
    def get_provided_features_list() -> tuple[str, str]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = dict(zip(("features", "logits"), self.classifier.extract(images), strict=True))
        return tuple(outputs[name] for name in self.features_list)


torch_fidelity.register_feature_extractor("same-features", SameFeatures)


class Bytes(Dataset[Tensor]):
    """The images of a samples.npz, in memory, as torch-fidelity wants them: bytes, channels first."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as archive:
            self.images = torch.from_numpy(archive["arr_0"]).permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def prepare(folder: Path, sizes: Sizes) -> None:
    """Writes sampled.npz, real.npz and the classifier's `model`."""
    torch.manual_seed(0)
    classes = tuple(map(str, range(10)))
    config = ImageClassifierConfig(
        image_size=sizes.side, in_channels=3, classes=classes, width=sizes.width
    )
    ImageClassifier(config).save_pretrained(folder / "model")
    for name, contrast in (("real", 1.0), ("sampled", 0.8)):
        coarse = torch.rand(sizes.count, 3, 4, 4).sub(0.5).mul(255 * contrast).add(127)
        images = (F.interpolate(part, sizes.side, mode="bicubic") for part in coarse.split(500))
        bytes_ = (
            image.permute(1, 2, 0).numpy() for part in images for image in part.clamp(0, 255).byte()
        )
        save_npz(bytes_, sizes.count, folder / f"{name}.npz")


def features_of(extractor: ClassifierExtractor, path: Path, batch_size: int) -> Features:
    """The features of an .npz of images."""
    return extract([extractor], SampledImages(path, None).batches(batch_size))[0]


def ours(folder: Path, batch_size: int, cache: Path | None) -> dict[str, float]:
    """The metrics as `simvq score` computes them; without a cache no features are stored."""
    with tempfile.TemporaryDirectory() as new:
        extractor = ClassifierExtractor(folder / "model", processes().device)
        sampled, real = (
            partial(features_of, extractor, folder / f"{name}.npz", batch_size)
            for name in ("sampled", "real")
        )
        reference = cached_reference(
            "real", {"classifier": extractor.sha256}, cache or Path(new), real
        )
        features = sampled()
        precision, recall = precision_recall(features, reference, extractor, SEED)
        metrics = {
            "distance": distance(features, reference, extractor),
            "KID": kernel_distance(features, reference, extractor, SEED),
            "precision": precision,
            "recall": recall,
            "inception score": inception_score(features, extractor, SEED),
        }
    return {name: float(metric.value or 0) for name, metric in metrics.items()}


def theirs(folder: Path, batch_size: int, cache: Path | None) -> dict[str, float]:
    """The metrics as torch-fidelity computes them."""
    cached = (
        {"cache": False}
        if cache is None
        else {
            "cache_root": str(cache),
            "input2_cache_name": "real",
        }
    )
    sampled = Bytes(folder / "sampled.npz")
    metrics = torch_fidelity.calculate_metrics(
        input1=sampled,
        input2=Bytes(folder / "real.npz"),
        feature_extractor="same-features",
        feature_extractor_weights_path=str(folder / "model"),
        cuda=processes().device.type == "cuda",
        batch_size=batch_size,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subsets=1,  # ours is over all items
        kid_subset_size=len(sampled),
        isc_splits=SPLITS if len(sampled) >= SPLITS * SMALLEST_SPLIT else 1,
        rng_seed=SEED,
        verbose=False,
        **cached,
    )
    return {
        "distance": metrics["frechet_inception_distance"],
        "KID": metrics["kernel_inception_distance_mean"],
        "precision": metrics["precision"],
        "recall": metrics["recall"],
        "inception score": metrics["inception_score_mean"],
    }


WAYS = {"simvq": ours, "torch-fidelity": theirs}


def scoring(name: str, folder: Path, batch_size: int) -> Callable[[], object]:
    """A way to score, without a cache."""
    return partial(WAYS[name], folder, batch_size, None)


def compare(sizes: Sizes) -> Compared:
    """Both ways in turn, without a cache and with the real images in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, sizes)
        metrics: dict[str, dict[str, float]] = {}
        ways: dict[str, Callable[[], object]] = {}
        for way, function in WAYS.items():
            cache = folder / "cache" / way
            metrics[way] = function(folder, sizes.batch_size, cache)
            ways[way] = scoring(way, folder, sizes.batch_size)
            ways[f"{way}, cached"] = partial(function, folder, sizes.batch_size, cache)
        timings = alternate(ways, sizes.rounds, processes().device)
        weighing = WAYS if sizes.memory else {}
        added = {way: weighed(scoring, way, folder, sizes.batch_size) for way in weighing}
    return Compared(
        ours=metrics["simvq"], theirs=metrics["torch-fidelity"], timings=timings, added_gib=added
    )


def rows(compared: Compared, count: int) -> list[list[str]]:
    """A line for each way."""
    lines = []
    for way, metrics in zip(WAYS, (compared.ours, compared.theirs), strict=True):
        medians = [compared.timings[name].median for name in (way, f"{way}, cached")]
        base = [compared.timings[name].median for name in ("simvq", "simvq, cached")]
        ratios = [f"{mine / simvq:.2f}" for mine, simvq in zip(medians, base, strict=True)]
        memory = f"{compared.added_gib[way]:.2f} GiB" if compared.added_gib else ""
        values = [f"{value:.4f}" for value in metrics.values()]
        seconds = [f"{median:.2f}" for median in medians]
        lines.append([way, f"{count:,}", *seconds, *ratios, memory, *values])
    return lines


HEADER = (
    *("way", "images", "s", "s, real cached", "/ simvq", "/ simvq, real cached", "memory added"),
    *("distance", "KID", "precision", "recall", "inception score"),
)


def main(overrides: list[str]) -> None:
    """Measures, prints and writes the table."""
    sizes = load_config(Sizes, None, overrides)
    compared = compare(sizes)
    report("scoring", HEADER, rows(compared, sizes.count), compared)


if __name__ == "__main__":
    main(sys.argv[1:])
