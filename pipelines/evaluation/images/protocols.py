"""Protocols of image distances: what papers do to images between network and score, done to the same images."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from common.images import from_uint8, to_pil
from common.seeding import generator_at
from pipelines.evaluation.features import Features, Reference, statistics
from pipelines.evaluation.fidelity import metric_name
from pipelines.evaluation.images.data import Batch, image_batches
from pipelines.evaluation.images.evaluation import ImageEvaluation
from pipelines.evaluation.images.extractors import InceptionExtractor, extract
from pipelines.evaluation.images.hub_extractors import bicubic
from pipelines.evaluation.jackknife import GROUPS, Target, distances
from pipelines.evaluation.protocols import USUAL_COUNT, Outcome, extrapolated, outcome
from stage1_tokenizer.data import BadItemError
from stage1_tokenizer.images.data import ImageDataset

QUALITIES = 95, 75
"""JPEG qualities: of careful tools, and Pillow's default."""
INCEPTION_SIDE = 299
"""Side, in pixels, to which Inception's inputs are resized."""
LEAST_HALVED = 4 * GROUPS
"""Fewest items of which half are scored too."""
Batches = Callable[[], Iterator[Batch]]


@dataclass(frozen=True)
class Subject:
    """A set that is scored by several protocols."""

    row: str
    batches: Batches
    truncated: Batches
    features: Float[Tensor, "n f"]
    """As scored."""
    real: Reference
    """What it is compared with, as scored."""
    other: Reference


def image_protocols(evaluation: ImageEvaluation) -> list[Outcome]:
    """The distances of reconstructions and samples by the first extractor's features, by every protocol."""
    return [each for subject in subjects(evaluation) for each in outcomes(subject, evaluation)]


def subjects(evaluation: ImageEvaluation) -> Iterator[Subject]:
    """Reconstructions, compared with their originals, and samples, compared with the training images."""
    real = evaluation.references[0]
    yield Subject(
        "reconstruction",
        lambda: rebuilt(evaluation, lambda x: x.round()),
        lambda: rebuilt(evaluation, torch.floor),
        evaluation.sets["reconstruction"][0].features.features,
        real.heldout,
        real.train,
    )
    if (sampled := evaluation.sampled) is not None:
        size = evaluation.config.batch_size
        yield Subject(
            "samples",
            lambda: sampled.batches(size),
            lambda: changed(sampled.batches(size), lowered),
            evaluation.sets["samples"][0].features.features,
            real.train,
            real.heldout,
        )


def outcomes(subject: Subject, evaluation: ImageEvaluation) -> Iterator[Outcome]:
    """The distance as scored, then by each protocol that differs in one thing."""
    extractor, seed = evaluation.extractors[0], evaluation.config.seed
    metric = metric_name("FID", extractor, subject.real.name)
    target = Target.of(subject.real.statistics)
    base = distances(subject.features, target, seed)

    def by(protocol: str, values: Float[np.ndarray, " _"]) -> Outcome:
        return outcome(subject.row, metric, protocol, values, base)

    yield by("as scored", base)
    for protocol, batches in image_changes(subject).items():
        features = extract([extractor], batches)[0].features
        yield by(protocol, distances(features, target, seed))
    if isinstance(extractor, InceptionExtractor):
        items, real = resized_by_pillow(subject, evaluation)
        values = distances(items.features, Target.of(statistics(real)), seed)
        yield by("resized for Inception by Pillow (clean-fid)", values)
    count, dimensions = subject.features.shape
    if count >= LEAST_HALVED:
        halves = distances(subject.features, target, seed, parts=2)
        yield by(f"half of the items, {count // 2:,}", halves)
    if count != USUAL_COUNT and count // 2 > max(dimensions, LEAST_HALVED):
        values = extrapolated(base, halves, count, USUAL_COUNT)
        yield by(f"{USUAL_COUNT:,} items, extrapolated", values)
    for protocol, gaussian in gaussians(subject, evaluation):
        yield by(protocol, distances(subject.features, Target.of(gaussian), seed))


def image_changes(subject: Subject) -> dict[str, Iterator[Batch]]:
    """What is done to the images alone, and not to those that they are compared with."""
    exact = "" if subject.row == "reconstruction" else " (on average)"
    changes = {
        f"JPEG of quality {quality}": changed(subject.batches(), partial(jpeg, quality))
        for quality in QUALITIES
    }
    changes[f"bytes truncated, not rounded{exact}"] = subject.truncated()
    return changes


def resized_by_pillow(subject: Subject, evaluation: ImageEvaluation) -> list[Features]:
    """Inception's features of the images and of those that they are compared with, both resized as clean-fid does it."""
    sides = (
        subject.batches(),
        image_batches(real_images(subject, evaluation), evaluation.config.batch_size),
    )
    resized = (changed(side, lambda image, _: for_inception(image)) for side in sides)
    return [extract(evaluation.extractors[:1], side)[0] for side in resized]


def real_images(subject: Subject, evaluation: ImageEvaluation) -> ImageDataset:
    """The images that a subject is compared with."""
    return evaluation.train if subject.real.name == "train" else evaluation.heldout


def gaussians(
    subject: Subject, evaluation: ImageEvaluation
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Other Gaussians to compare with."""
    yield f"compared with {subject.other.name} images", subject.other.statistics
    real = subject.real.features.features
    half = real[torch.randperm(len(real), generator=generator_at(evaluation.config.seed, 1))]
    half_real = replace(subject.real.features, features=half[: len(real) // 2])
    yield (
        f"compared with {len(real) // 2:,} of {len(real):,} {subject.real.name} images",
        statistics(half_real),
    )
    if evaluation.published is not None and evaluation.published_place == 0:
        published = evaluation.published
        yield f"compared with {published.path.name}", published.gaussian
    dataset = real_images(subject, evaluation)
    if needs_resizing(dataset):
        batches = otherwise_resized(dataset, evaluation.config.batch_size)
        features = extract([evaluation.extractors[0]], batches)[0]
        yield f"{subject.real.name} images resized bicubically (ADM)", statistics(features)


def changed(
    batches: Iterator[Batch], change: Callable[[UInt8[Tensor, "c y x"], int], Tensor]
) -> Iterator[Batch]:
    """The batches with each image changed, by its place."""
    for batch in batches:
        pairs = zip(batch.images, batch.indices.tolist(), strict=True)
        yield replace(batch, images=torch.stack([change(*pair) for pair in pairs]))


def jpeg(quality: int, image: UInt8[Tensor, "c y x"], index: int = 0) -> UInt8[Tensor, "c y x"]:
    """The image after JPEG, as Pillow writes it."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="JPEG", quality=quality)
    return TF.pil_to_tensor(Image.open(buffer)).contiguous()


def lowered(image: UInt8[Tensor, "c y x"], index: int) -> UInt8[Tensor, "c y x"]:
    """The image with a random half of its values one lower: what truncating, not rounding, does to them on average.

    The exact values before rounding are lost. 0 and 255, where values are clipped, stay.
    """
    coins = torch.rand(image.shape, generator=generator_at(index, 0)) < 0.5
    return image - (coins & (image > 0) & (image < 255)).byte()


def for_inception(image: UInt8[Tensor, "c y x"]) -> UInt8[Tensor, "c 299 299"]:
    """The image as clean-fid resizes it for Inception, but in bytes."""
    return bicubic(image[None], INCEPTION_SIDE)[0].round().byte()


def rebuilt(evaluation: ImageEvaluation, to_whole: Callable[[Tensor], Tensor]) -> Iterator[Batch]:
    """The reconstructions of the held-out images, made bytes by another rule."""
    tokenizer, device = evaluation.reconstructor.tokenizer, evaluation.reconstructor.device
    for batch in image_batches(evaluation.heldout, evaluation.config.batch_size):
        images = tokenizer.reconstruct(from_uint8(batch.images).to(device))
        pixels = to_whole((images.float() + 1) * 127.5).clamp(0, 255).byte()
        yield replace(batch, images=pixels.cpu())


@dataclass(frozen=True)
class AdmResized(ImageDataset):
    """A split whose images come resized as guided-diffusion does it."""

    def decode(self, row: dict[str, Any]) -> Image.Image:
        """The image of a row, its shorter side resized. Raises BadItemError."""
        return shrunk(super().decode(row), self.size)


def otherwise_resized(dataset: ImageDataset, batch_size: int) -> Iterator[Batch]:
    """The centre views, resized as guided-diffusion does it."""
    parts = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    return image_batches(AdmResized(**parts), batch_size)


def needs_resizing(dataset: ImageDataset) -> bool:
    """Whether the first image that can be decoded has another size than it is scored at."""
    for row in dataset.rows:
        with contextlib.suppress(BadItemError):
            return min(dataset.decode(row).size) != dataset.size
    return False


def shrunk(image: Image.Image, size: int) -> Image.Image:
    """The image with its shorter side of `size` pixels: halved by boxes while twice as large, then bicubically."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = (max(round(side * scale), size) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
