"""What scoring does with images: the rows of the table, and what is shown beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from common.images import ROUNDING, from_uint8, to_uint8
from common.seeding import epoch_order
from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.controls import (
    code_tables,
    control_sequences,
    scrambled_image,
    shares,
    train_to_train,
)
from pipelines.evaluation.examples import Examples
from pipelines.evaluation.extractors import NO_CLASSIFIER
from pipelines.evaluation.features import Extractor, Features, References, limited, statistics
from pipelines.evaluation.fidelity import (
    clip_distance,
    distance,
    distance_to_file,
    inception_score,
    kernel_distance,
    label_accuracy,
    metric_name,
    nearest_distance,
    precision_recall,
)
from pipelines.evaluation.images.data import Batch, image_batches, sampled_images
from pipelines.evaluation.images.extractors import (
    ClassifierExtractor,
    InceptionExtractor,
    choose_extractors,
    extract,
    reference,
)
from pipelines.evaluation.images.figures import (
    SHOWN,
    neighbours_figure,
    reconstructions_figure,
    samples_figure,
)
from pipelines.evaluation.images.hub_extractors import HubExtractor
from pipelines.evaluation.images.metrics import ReconstructionMetrics, load_lpips
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.report import Figure
from pipelines.evaluation.statistics_files import Statistics, read_statistics, write_statistics
from pipelines.evaluation.table import Metric, Metrics, Unavailable
from stage1_tokenizer.images.data import load_images


class ImageEvaluation:
    """The parts of scoring images that `score` calls."""

    items = "images"

    def __init__(
        self,
        config: ScoreImagesConfig,
        reconstructor: Reconstructor,
        sampling: dict[str, Any] | None,
    ) -> None:
        self.config, self.reconstructor, self.sampling = config, reconstructor, sampling or {}
        self.published = read_statistics(config.statistics) if config.statistics else None
        size = reconstructor.tokenizer.config.image_size
        channels = reconstructor.tokenizer.config.in_channels
        self.sampled = None
        if config.samples and sampling:
            self.sampled = sampled_images(config.samples, sampling, (size, size, channels))
        self.extractors = choose_extractors(config, reconstructor.device)
        train = load_images(config.data, "train", channels=channels, size=size)
        self.train = limited(train, config.reference_count, config.seed)
        self.heldout = load_images(config.data, config.data.scored, channels=channels, size=size)
        self.references = [
            References(
                extractor,
                reference("train", self.train, extractor, config.batch_size, config.cache),
                reference("held-out", self.heldout, extractor, config.batch_size, config.cache),
            )
            for extractor in self.extractors
        ]
        lpips = load_lpips(size, config.allow_download, reconstructor.device)
        self.reconstruction_metrics = ReconstructionMetrics(lpips)
        self.examples = Examples(SHOWN)
        """Originals and their reconstructions; `metrics` makes these and the next."""
        self.features: dict[str, list[Features]] = {}
        """Of reconstructions and samples, by each extractor."""
        self.published_side = self.side_of(self.published) if self.published else 0

    def side_of(self, published: Statistics) -> int:
        """The place of the first extractor that a file of statistics fits. Raises ValueError where it fits none."""
        for i, each in enumerate(self.references):
            if published.fits(each.extractor, each.train.features.features.shape[1]):
                return i
        ours = ", ".join(
            f"{each.extractor.name} has {each.train.features.features.shape[1]}"
            for each in self.references
        )
        whose = published.extractor or "a network it doesn't name"
        raise ValueError(
            f"statistics={published.path} are of {len(published.mu)} features of {whose}, and {ours}: set "
            "score.statistics, or the extractor that made them"
        )

    def metrics(self) -> dict[str, Metrics]:
        """The metrics of each row of the table."""
        sets = {name: extract(self.extractors, batches) for name, batches in self.sets()}
        self.features = {name: sets[name] for name in ("reconstruction", "samples") if name in sets}
        rows = {name: self.to_train(features) for name, features in sets.items()}
        rows["reconstruction"] = (
            self.reconstruction_metrics.compute()
            | self.reconstructor.metrics()
            | self.to_heldout(sets["reconstruction"])
            | rows["reconstruction"]
            | self.accuracies(sets["reconstruction"], self.heldout.classes)
        )
        if self.sampled:
            labelled = self.sampling["labels"] is not None
            classes = tuple(self.sampling["classes"] or ()) if labelled else ()
            rows["samples"] |= self.of_originals(sets["samples"], classes)
            rows["samples"] |= shares(sets, self.references, self.config.seed)
        real = [each.heldout.features for each in self.references]
        rows["held-out vs train"] = self.to_train(real) | self.of_originals(
            real, self.heldout.classes
        )
        rows["train vs train"] = train_to_train(self.references)
        return rows

    def sets(self) -> Iterator[tuple[str, Iterator[Batch]]]:
        """The images of each row but those of real ones; the controls of samples have as many, if so many are held out."""
        size, seed = self.config.batch_size, self.config.seed
        yield "reconstruction", self.reconstructions()
        if not self.sampled:
            return
        yield "samples", self.sampled.batches(size)
        count = min(len(self.references[0].heldout.features), self.sampled.shape[0])
        if self.config.codes and self.reconstructor.spec.has_codes:
            tables = code_tables(self.config.codes, self.reconstructor.spec.levels)
            for name, sequences in control_sequences(tables, count, seed):
                yield name, self.decoded(torch.stack(sequences))
        yield "scrambled", self.scrambled(count)

    def reconstructions(self) -> Iterator[Batch]:
        """The reconstructions of the held-out images, in bytes, measured on the way."""
        for batch in image_batches(self.heldout, self.config.batch_size):
            rebuilt = to_uint8(self.reconstructor(from_uint8(batch.images)))
            self.reconstruction_metrics.update(batch.images.to(rebuilt.device), rebuilt)
            self.examples.add(batch.images, rebuilt, batch.labels)
            yield replace(batch, images=rebuilt)

    def decoded(self, codes: Int[Tensor, "b n"]) -> Iterator[Batch]:
        """The images of sequences of codes, in bytes."""
        tokenizer = self.reconstructor.tokenizer
        indices = torch.arange(len(codes))
        for part, places in zip(
            codes.split(self.config.batch_size), indices.split(self.config.batch_size), strict=True
        ):
            grids = part.unflatten(1, tokenizer.codes_shape).to(self.reconstructor.device)
            images = to_uint8(tokenizer.decode(grids))
            yield Batch(images, places, torch.zeros_like(places))

    def scrambled(self, count: int) -> Iterator[Batch]:
        """Held-out images, chosen at random by the seed, whose blocks have changed places."""
        places = self.references[0].heldout.features.indices  # of those that can be decoded
        chosen = set(places[epoch_order(len(places), self.config.seed, 0)[:count]].tolist())
        for batch in image_batches(self.heldout, self.config.batch_size, chosen):
            pairs = zip(batch.images, batch.indices.tolist(), strict=True)
            yield replace(batch, images=torch.stack([scrambled_image(*pair) for pair in pairs]))

    def to_train(self, sides: Sequence[Features]) -> Metrics:
        """The distances of any set to the training images, by each extractor's features of it."""
        real, extractor, seed = self.references[0].train, self.extractors[0], self.config.seed
        precision, recall = precision_recall(sides[0], real, extractor, seed)
        frechet: Metrics = {
            self.name("FID", each.extractor): distance(side, each.train, each.extractor)
            for side, each in zip(sides, self.references, strict=True)
        }
        embedded: Metrics = {
            self.name("CMMD", each.extractor): clip_distance(side, each.train, each.extractor, seed)
            for side, each in zip(sides, self.references, strict=True)
            if isinstance(each.extractor, HubExtractor) and each.extractor.is_clip
        }
        return (
            frechet
            | self.to_published(sides)
            | embedded
            | {
                self.name("KID", extractor): kernel_distance(sides[0], real, extractor, seed),
                metric_name("precision", extractor): precision,
                metric_name("recall", extractor): recall,
            }
        )

    def to_published(self, sides: Sequence[Features]) -> Metrics:
        """The distance to the Gaussian of the file that `statistics` names; nothing without one."""
        if self.published is None:
            return {}
        items, extractor = sides[self.published_side], self.extractors[self.published_side]
        key = self.name("FID", extractor, self.published.path.name)
        return {key: distance_to_file(items, self.published, extractor)}

    def to_heldout(self, sides: Sequence[Features]) -> Metrics:
        """The Frechet distance of reconstructions to their originals."""
        real, extractor = self.references[0].heldout, self.extractors[0]
        return {self.name("FID", extractor, "held-out"): distance(sides[0], real, extractor)}

    def of_originals(self, sides: Sequence[Features], classes: tuple[str, ...]) -> Metrics:
        """What can be said of images that are no copies of others; `classes` name their labels."""
        real, extractor = self.references[0].train, self.extractors[0]
        nearest = metric_name("nearest train image", extractor)
        return {
            metric_name("IS", extractor): self.inception_score(sides[0]),
            **self.accuracies(sides, classes),
            nearest: nearest_distance(sides[0], real, extractor),
        }

    def inception_score(self, items: Features) -> Metric | Unavailable:
        """That of the first extractor, where it has classes."""
        extractor = self.extractors[0]
        if not isinstance(extractor, InceptionExtractor | ClassifierExtractor):
            return Unavailable(f"{extractor.name} has no classes")
        return inception_score(items, extractor, self.config.seed)

    def write_statistics(self, folder: Path) -> None:
        """Writes mu and sigma of real images, reconstructions and samples by each extractor's features."""
        for i, each in enumerate(self.references):
            sets = {name: (sides[i], statistics(sides[i])) for name, sides in self.features.items()}
            sets |= {
                real.name: (real.features, real.statistics) for real in (each.train, each.heldout)
            }
            for name, (items, gaussian) in sets.items():
                path = folder / f"{each.extractor.name}-{name}.npz"
                write_statistics(path, gaussian, each.extractor, len(items))

    def accuracies(self, sides: Sequence[Features], classes: tuple[str, ...]) -> Metrics:
        """Label accuracy by each classifier."""
        metrics: Metrics = {}
        for extractor, side in zip(self.extractors, sides, strict=True):
            if isinstance(extractor, ClassifierExtractor):
                name = "label accuracy" + (f" ({extractor.name})" if metrics else "")
                metrics[name] = label_accuracy(extractor, side, classes)
        missing = NO_CLASSIFIER if classes else Unavailable("there are no labels")
        return metrics or {"label accuracy": missing}

    def name(self, metric: str, extractor: Extractor, against: str = "train") -> str:
        """The name of a distance in the table."""
        return f"{metric_name(metric, extractor)} vs {against}"

    def figures(self) -> list[Figure]:
        """Samples, reconstructions, and the samples' nearest training images."""
        reconstructions = reconstructions_figure(self.examples.chosen())
        if self.sampled is None:
            return [reconstructions]
        return [
            samples_figure(self.sampled, self.sampling),
            reconstructions,
            neighbours_figure(
                self.sampled, self.features["samples"][0], self.references[0], self.train
            ),
        ]

    def data(self) -> dict[str, dict[str, Any]]:
        """What the training and the held-out images are, and how their pixels are made."""
        preparation = {
            "resize": "shorter side to the size (bilinear, antialiased), centre crop; none if it fits",
            "rounding": ROUNDING,
        }
        real = self.references[0]
        parts = (real.train, self.train), (real.heldout, self.heldout)
        return {
            part.name: {
                "count": len(part.features),
                "data_fingerprint": dataset.fingerprint,
                **preparation,
            }
            for part, dataset in parts
        }
