"""What scoring does with images: the sets of the table, and what is shown beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from common.images import ROUNDING, from_uint8, to_uint8
from common.seeding import epoch_order
from pipelines.evaluation.comparison import Comparison, distances, label_accuracies
from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.controls import (
    code_tables,
    control_sequences,
    scrambled_image,
    shares,
    train_to_train,
)
from pipelines.evaluation.examples import Examples
from pipelines.evaluation.features import Features, References, limited, statistics
from pipelines.evaluation.fidelity import (
    clip_distance,
    distance_to_file,
    inception_score,
    kernel_distance,
    metric_name,
    nearest_distance,
    precision_recall,
)
from pipelines.evaluation.images.data import Batch, image_batches, sampled_images
from pipelines.evaluation.images.extractors import (
    ClassifierExtractor,
    ImageExtractor,
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

LABEL_ACCURACY = "label accuracy"
ImageComparison = Comparison[ImageExtractor]


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
        """Originals and their reconstructions, from when `sets` is first asked for."""
        self.published_place = self.place_of(self.published) if self.published else 0

    def place_of(self, published: Statistics) -> int:
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
        """The metrics of each set of the table."""
        metrics = {name: self.to_train(by_extractor) for name, by_extractor in self.sets.items()}
        rebuilt, classes = self.sets["reconstruction"], self.heldout.classes
        metrics["reconstruction"] = (
            self.reconstruction_metrics.compute()
            | self.reconstructor.metrics()
            | distances(rebuilt, "held-out")
            | metrics["reconstruction"]
            | label_accuracies(rebuilt, classes, LABEL_ACCURACY)
        )
        if self.sampled:
            labelled = self.sampling["labels"] is not None
            sampled_classes = tuple(self.sampling["classes"] or ()) if labelled else ()
            metrics["samples"] |= self.of_originals(self.sets["samples"], sampled_classes)
            metrics["samples"] |= shares(self.sets, self.config.seed)
        real = [Comparison(each.heldout.features, each) for each in self.references]
        metrics["held-out vs train"] = self.to_train(real) | self.of_originals(real, classes)
        metrics["train vs train"] = train_to_train(self.references)
        return metrics

    @cached_property
    def sets(self) -> dict[str, list[ImageComparison]]:
        """Each set but the real images, by each extractor; computing it measures the reconstructions."""
        return {
            name: [*map(Comparison, extract(self.extractors, batches), self.references)]
            for name, batches in self.batches()
        }

    def batches(self) -> Iterator[tuple[str, Iterator[Batch]]]:
        """The images of each set but the real ones. Each control has min(samples, held-out images) of them."""
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

    def to_train(self, by_extractor: Sequence[ImageComparison]) -> Metrics:
        """The distances of any set to the training images."""
        first, seed = by_extractor[0], self.config.seed
        extractor, sides = first.real.extractor, (first.features, first.real.train)
        precision, recall = precision_recall(*sides, extractor, seed)
        embedded: Metrics = {
            metric_name("CMMD", clip, "train"): clip_distance(
                each.features, each.real.train, clip, seed
            )
            for each in by_extractor
            if isinstance(clip := each.real.extractor, HubExtractor) and clip.is_clip
        }
        return (
            distances(by_extractor, "train")
            | self.to_published(by_extractor)
            | embedded
            | {
                metric_name("KID", extractor, "train"): kernel_distance(*sides, extractor, seed),
                metric_name("precision", extractor): precision,
                metric_name("recall", extractor): recall,
            }
        )

    def to_published(self, by_extractor: Sequence[ImageComparison]) -> Metrics:
        """The distance to the Gaussian of the file that `statistics` names; nothing without one."""
        if self.published is None:
            return {}
        compared = by_extractor[self.published_place]
        extractor = compared.real.extractor
        key = metric_name("FID", extractor, self.published.path.name)
        return {key: distance_to_file(compared.features, self.published, extractor)}

    def of_originals(
        self, by_extractor: Sequence[ImageComparison], classes: tuple[str, ...]
    ) -> Metrics:
        """Metrics of samples and of real images only; `classes` name their labels."""
        items, real = by_extractor[0].features, by_extractor[0].real
        nearest = metric_name("nearest train image", real.extractor)
        return {
            metric_name("IS", real.extractor): self.inception_score(items),
            **label_accuracies(by_extractor, classes, LABEL_ACCURACY),
            nearest: nearest_distance(items, real.train, real.extractor),
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
            sets = {
                real.name: (real.features, real.statistics) for real in (each.train, each.heldout)
            }
            for name in ("reconstruction", "samples"):
                if name in self.sets:
                    items = self.sets[name][i].features
                    sets[name] = items, statistics(items)
            for name, (items, gaussian) in sets.items():
                path = folder / f"{each.extractor.name}-{name}.npz"
                write_statistics(path, gaussian, each.extractor, len(items))

    def figures(self) -> list[Figure]:
        """Samples, reconstructions, and the samples' nearest training images."""
        sets = self.sets  # which fills the examples
        reconstructions = reconstructions_figure(self.examples.chosen())
        if self.sampled is None:
            return [reconstructions]
        return [
            samples_figure(self.sampled, self.sampling),
            reconstructions,
            neighbours_figure(self.sampled, sets["samples"][0], self.train),
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
