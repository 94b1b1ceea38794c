"""Networks that turn images into features: Inception, our classifiers, CLIP, DINOv2, untrained ones."""

import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)
from tqdm.auto import tqdm

from common.files import sha256
from common.images import from_uint8
from pipelines.evaluation.config import ScoreImagesConfig
from pipelines.evaluation.extractors import load_classifier, second_classifier, verified_sha256
from pipelines.evaluation.features import (
    Features,
    Reference,
    cache_key,
    cached_reference,
)
from pipelines.evaluation.images.classifier import ImageClassifier
from pipelines.evaluation.images.data import Batch, image_batches
from pipelines.evaluation.images.hub_extractors import HubExtractor
from pipelines.evaluation.table import Unavailable
from stage1_tokenizer.images.data import ImageDataset

INCEPTION_FILE = URL_INCEPTION_V3.rsplit("/", 1)[-1]
INCEPTION_HASH = INCEPTION_FILE.removesuffix(".pth").rsplit("-", 1)[-1]
"""The first digits of the SHA-256 of the published weights."""
CHANNELS = (3, 32, 64, 128)
"""Of the untrained network."""
NO_INCEPTION = Unavailable("Inception's weights are not there")


class InceptionExtractor:
    """torch-fidelity's `inception-v3-compat`: 2048 features. Grey becomes three equal channels.

    Raises ValueError for a file that doesn't have the hash in its name, or isn't Inception's.
    """

    def __init__(self, weights: Path, device: torch.device) -> None:
        self.sha256 = verified_sha256(weights)
        self.published = self.sha256.startswith(INCEPTION_HASH)
        digits = self.sha256[:8]
        self.name = "inception-v3-compat" if self.published else f"inception-of-{digits}"
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            # torch-fidelity unpickles what it is given: it is given our own copy
            trusted = io.BytesIO()
            torch.save(state, trusted)
            trusted.seek(0)
            self.network = FeatureExtractorInceptionV3(
                self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=trusted
            ).to(device)
        except (RuntimeError, TypeError, EOFError, UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"inception_weights={weights} are not those of Inception v3 ({reason}): give {INCEPTION_FILE}"
            ) from None
        self.device = device

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b k"]]:
        features, logits = self.network(images.to(self.device).expand(-1, 3, -1, -1))
        return features, logits


class ClassifierExtractor:
    """Our own classifier: its pooled last stage."""

    published = False

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.model: ImageClassifier = load_classifier(ImageClassifier, folder).to(device)
        self.name, self.classes = self.model.config.name, self.model.config.classes
        self.sha256 = sha256(folder / "model.safetensors")
        self.device = device

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b k"]]:
        inputs = from_uint8(images).to(self.device, memory_format=torch.channels_last)
        features = self.model.features(inputs)
        return features, self.model.head(features)


class UntrainedExtractor:
    """Three convolutions with random weights, a function of the seed: 128 features. Grey becomes three equal channels.

    Distances between such features tell sets of images apart, but not as people would.
    """

    published = False

    def __init__(self, device: torch.device, kernel: int = 3, seed: int = 0) -> None:
        self.name = "untrained-network" + (f"-{kernel}x{kernel}" if kernel != 3 else "")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [
                nn.Sequential(nn.Conv2d(i, o, kernel, 2, padding=kernel // 2), nn.ReLU())
                for i, o in itertools.pairwise(CHANNELS)
            ]
        self.network = nn.Sequential(*layers).to(device)
        weights = torch.cat([p.detach().cpu().flatten() for p in self.network.parameters()])
        self.sha256 = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
        self.device = device

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b f"]]:
        """The features twice: there are no classes."""
        colour = from_uint8(images).to(self.device).expand(-1, 3, -1, -1)
        features = self.network(colour).mean((2, 3))
        return features, features


ImageExtractor = InceptionExtractor | ClassifierExtractor | HubExtractor | UntrainedExtractor
"""Their `extract` gives features, and unnormalised log-probabilities of classes, in one pass."""


def choose_extractors(config: ScoreImagesConfig, device: torch.device) -> list[ImageExtractor]:
    """The networks that sets are compared by: Inception if it is there, the classifiers, then config.extractors.

    Some metrics use the first one only. If there are none, and no download was asked for, they are two networks with
    random weights. Raises ValueError for weights that can't be had.
    """
    extractors: list[ImageExtractor] = []
    inception = load_inception(config.inception_weights, config.allow_download, device)
    if not isinstance(inception, Unavailable):
        extractors.append(inception)
    if config.classifier:
        extractors.append(ClassifierExtractor(config.classifier, device))
        second = second_classifier(config.classifier)
        extractors += [ClassifierExtractor(second, device)] if second.is_dir() else []
    extractors += [HubExtractor(each, config.allow_download, device) for each in config.extractors]
    if extractors:
        return extractors
    if inception != NO_INCEPTION:
        assert isinstance(inception, Unavailable)
        raise ValueError(
            f"there are no features to compare by ({inception.reason}): set inception_weights=PATH to "
            f"{INCEPTION_FILE}, or allow_download=false"
        )
    return [UntrainedExtractor(device), UntrainedExtractor(device, kernel=7, seed=1)]


def standard_inception() -> Path:
    """Where torch-fidelity puts Inception's weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE


def load_inception(
    inception_weights: Path | None, allow_download: bool, device: torch.device
) -> InceptionExtractor | Unavailable:
    """Inception from a file, torch-fidelity's folder or a download, or why there is none. Raises ValueError."""
    if inception_weights is not None and not inception_weights.is_file():
        raise ValueError(
            f"inception_weights={inception_weights} is not a file: set inception_weights"
        )
    standard = standard_inception()
    if inception_weights is None and not standard.is_file() and allow_download:
        standard.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(
                URL_INCEPTION_V3, str(standard), hash_prefix=INCEPTION_HASH, progress=False
            )
        except (OSError, RuntimeError) as error:
            return Unavailable(f"the download failed: {error}")
    weights = inception_weights or standard
    return InceptionExtractor(weights, device) if weights.is_file() else NO_INCEPTION


def extract(
    extractors: Sequence[ImageExtractor], batches: Iterator[Batch], total: int | None = None
) -> list[Features]:
    """The features of all images by each extractor; only they, not the images, are held in memory.

    The bar that shows how far it is ends at `total` batches.
    """
    parts: list[list[tuple[Tensor, ...]]] = [[] for _ in extractors]
    for batch in tqdm(batches, desc="features", total=total, leave=False, disable=None):
        for extractor, own in zip(extractors, parts, strict=True):
            own.append((*extractor.extract(batch.images), batch.indices, batch.labels))
    if not all(parts):
        raise ValueError("none of the images can be decoded: set data.source")
    by_extractor = []
    for own in parts:
        features, logits, *places = (torch.cat(part).cpu() for part in zip(*own, strict=True))
        by_extractor.append(Features(features.float(), logits.float(), *places))
    return by_extractor


def reference(
    split: str, dataset: ImageDataset, extractor: ImageExtractor, batch_size: int, cache: Path
) -> Reference:
    """The features of a split and their statistics, from the cache if they are there."""
    key = cache_key(split, dataset, extractor, channels=dataset.channels, size=dataset.size)
    total = None if dataset.is_stream else -(-len(dataset) // batch_size)
    return cached_reference(
        split,
        key,
        cache,
        lambda: extract([extractor], image_batches(dataset, batch_size), total)[0],
    )
