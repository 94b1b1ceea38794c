"""What scoring does with images: the rows of the table, and what is shown beside it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from common.images import ROUNDING, from_uint8, to_uint8
from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.extractors import NO_CLASSIFIER
from pipelines.evaluation.features import Extractor, Features, References, limited
from pipelines.evaluation.fidelity import (
    distance,
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
    ImageExtractor,
    choose_extractor,
    extract,
    reference,
)
from pipelines.evaluation.images.figures import (
    SHOWN,
    neighbours_figure,
    reconstructions_figure,
    samples_figure,
)
from pipelines.evaluation.images.metrics import ReconstructionMetrics, load_lpips
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.report import Figure
from pipelines.evaluation.table import Metric, Metrics, Unavailable, difference
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
        size = reconstructor.tokenizer.config.image_size
        channels = reconstructor.tokenizer.config.in_channels
        self.sampled = None
        if config.samples and sampling:
            self.sampled = sampled_images(config.samples, sampling, (size, size, channels))
        device = reconstructor.device
        self.classifier: ClassifierExtractor | Unavailable = NO_CLASSIFIER
        if config.classifier:
            self.classifier = ClassifierExtractor(config.classifier, device)
        extractor = choose_extractor(
            config.inception_weights, config.allow_download, self.classifier, device
        )
        train = load_images(config.data, "train", channels=channels, size=size)
        self.train = limited(train, config.reference_count, config.seed)
        self.heldout = load_images(config.data, "validation", channels=channels, size=size)
        self.real = References(
            extractor,
            reference("train", self.train, extractor, config.batch_size, config.cache),
            reference("held-out", self.heldout, extractor, config.batch_size, config.cache),
        )
        lpips = load_lpips(size, config.allow_download, device)
        self.reconstruction_metrics = ReconstructionMetrics(lpips)
        self.examples: list[UInt8[Tensor, "b c y x"]] = []
        """The first originals and their reconstructions; `metrics` makes these and the next."""
        self.sample_features: Features | None = None

    def metrics(self) -> dict[str, Metrics]:
        """The metrics of each row of the table."""
        size, fid_name = self.config.batch_size, self.name("FID", "train")
        features = extract(self.extractor, self.reconstructions())
        rows = {"reconstruction": self.of_reconstructions(features)}
        if self.sampled:
            batches, labels = self.sampled.batches(size), self.sampling["labels"]
            classes = tuple(self.sampling["classes"] or ()) if labels is not None else ()
            self.sample_features = extract(self.extractor, self.sampled.batches(size))
            rows["samples"] = self.of_set(self.sample_features, batches, classes)
            rows["samples"][self.name("gFID - rFID", "train")] = difference(
                rows["samples"][fid_name],
                rows["reconstruction"][fid_name],
                "samples minus reconstruction: what the prior loses",
            )
        real = self.real.heldout.features
        heldout_batches = image_batches(self.heldout, size)
        rows["held-out vs train"] = self.of_set(real, heldout_batches, self.heldout.classes)
        train = self.real.train
        rows["train vs train"] = {fid_name: distance(train.features, train, self.extractor)}
        return rows

    def reconstructions(self) -> Iterator[Batch]:
        """The reconstructions of the held-out images, in bytes, measured on the way."""
        for batch in image_batches(self.heldout, self.config.batch_size):
            rebuilt = to_uint8(self.reconstructor(from_uint8(batch.images)))
            self.reconstruction_metrics.update(batch.images.to(rebuilt.device), rebuilt)
            if not self.examples:
                self.examples = [batch.images[:SHOWN], rebuilt[:SHOWN].cpu()]
            yield replace(batch, images=rebuilt)

    def of_reconstructions(self, features: Features) -> Metrics:
        """What the tokenizer loses."""
        return (
            self.reconstruction_metrics.compute()
            | self.reconstructor.metrics()
            | {self.name("FID", "held-out"): distance(features, self.real.heldout, self.extractor)}
            | self.to_train(features)
        )

    def of_set(
        self, features: Features, batches: Iterator[Batch], classes: tuple[str, ...]
    ) -> Metrics:
        """How images that are no copies of others lie to the training images; `classes` name their labels."""
        extractor = self.extractor
        return self.to_train(features) | {
            self.name("IS"): inception_score(features, extractor, self.config.seed),
            "label accuracy": self.accuracy(features, batches, classes),
            self.name("nearest train picture"): nearest_distance(
                features, self.real.train, extractor
            ),
        }

    def to_train(self, features: Features) -> Metrics:
        """The distances of any set to the training images."""
        real, extractor, seed = self.real.train, self.extractor, self.config.seed
        precision, recall = precision_recall(features, real, extractor, seed)
        return {
            self.name("FID", "train"): distance(features, real, extractor),
            self.name("KID", "train"): kernel_distance(features, real, extractor, seed),
            self.name("precision"): precision,
            self.name("recall"): recall,
        }

    def accuracy(
        self, features: Features, batches: Iterator[Batch], classes: tuple[str, ...]
    ) -> Metric | Unavailable:
        """Label accuracy, whose features are extracted anew where the others are Inception's."""
        if isinstance(self.classifier, Unavailable):
            return self.classifier
        if self.extractor is not self.classifier:
            features = extract(self.classifier, batches)
        return label_accuracy(self.classifier, features, classes)

    def name(self, metric: str, against: str = "") -> str:
        """The name of a metric in the table."""
        return metric_name(metric, self.extractor) + (f" vs {against}" if against else "")

    def figures(self) -> list[Figure]:
        """Samples, reconstructions, and the samples' nearest training images."""
        reconstructions = reconstructions_figure(self.examples)
        if self.sampled is None or self.sample_features is None:
            return [reconstructions]
        return [
            samples_figure(self.sampled, self.sampling),
            reconstructions,
            neighbours_figure(self.sampled, self.sample_features, self.real, self.train),
        ]

    @property
    def extractor(self) -> ImageExtractor:
        return self.real.extractor

    @property
    def references(self) -> list[References[ImageExtractor]]:
        return [self.real]

    @property
    def extractors(self) -> list[Extractor]:
        if isinstance(self.classifier, Unavailable) or self.classifier is self.extractor:
            return [self.extractor]
        return [self.extractor, self.classifier]

    def data(self) -> dict[str, dict[str, Any]]:
        """What the training and the held-out images are, and how their pixels are made."""
        preparation = {
            "resize": "shorter side to the size (bilinear, antialiased), centre crop; none if it fits",
            "rounding": ROUNDING,
        }
        parts = (self.real.train, self.train), (self.real.heldout, self.heldout)
        return {
            real.name: {
                "count": len(real.features),
                "data_fingerprint": dataset.fingerprint,
                **preparation,
            }
            for real, dataset in parts
        }
