"""The figures of the report on images."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from common.images import grid, png
from pipelines.evaluation.comparison import Comparison
from pipelines.evaluation.features import Features
from pipelines.evaluation.fidelity import nearest
from pipelines.evaluation.images.data import SampledImages, image_batches, select
from pipelines.evaluation.images.extractors import ImageExtractor
from pipelines.evaluation.report import Figure
from stage1_tokenizer.images.data import ImageDataset

SHOWN = 10
"""Originals, reconstructions and samples in a figure."""
MOST_CLASSES, PER_CLASS, NEIGHBOURS = 20, 10, 3


def samples_figure(sampled: SampledImages, sampling: dict[str, Any]) -> Figure:
    """The first samples of each label, uncurated."""
    labels = sampling["labels"] or [0] * sampled.shape[0]
    shown = sorted(set(labels))[:MOST_CLASSES]
    places = [[i for i, own in enumerate(labels) if own == label] for label in shown]
    columns = min(PER_CLASS, *map(len, places), len(labels))
    images = select(sampled.batches(256), [place for own in places for place in own[:columns]])
    whose = " of each label" if sampling["labels"] else ""
    if len(shown) < len(set(labels)):
        whose = f" of each of the first {len(shown)} labels"
    caption = f"The first {columns} samples{whose}, uncurated."
    if sampling["labels"]:
        names = sampling["classes"] or ()
        named = [names[label] if label < len(names) else str(label) for label in shown]
        caption += f" From top to bottom: {', '.join(named)}."
    return Figure("Samples", caption, png(grid(images.split(columns))), "images")


def reconstructions_figure(
    examples: Sequence[tuple[UInt8[Tensor, "c y x"], UInt8[Tensor, "c y x"]]],
) -> Figure:
    """Originals and reconstructions."""
    lines = [torch.stack(line) for line in zip(*examples, strict=True)]
    return Figure(
        "Reconstructions",
        "Held-out images above their reconstructions, the first of each class as far as there is room; uncurated.",
        png(grid(lines)),
        "images",
    )


def neighbours_figure(
    sampled: SampledImages, compared: Comparison[ImageExtractor], train: ImageDataset
) -> Figure:
    """The first samples above the training images nearest to them in feature space."""
    features, real = compared.features, compared.real
    count = min(SHOWN, len(features))
    first = Features(**{name: value[:count] for name, value in vars(features).items()})
    wide = min(NEIGHBOURS, len(real.train.features))
    distances, places = nearest(first, real.train.features, wide)
    batches = image_batches(train, 256, wanted=set(places.flatten().tolist()))
    neighbours = select(batches, places.T.flatten().tolist())
    lines = [select(sampled.batches(256), list(range(count))), *neighbours.split(count)]
    listed = ", ".join(f"{distance:.3g}" for distance in distances[:, 0].tolist())
    return Figure(
        "Nearest training images",
        f"The first samples above the {wide} training images nearest to each by the features of "
        f"{real.extractor.name}. Distances to the nearest: {listed}.",
        png(grid(lines)),
        "images",
    )
