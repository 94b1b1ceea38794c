"""A small classifier of pictures: the feature extractor where Inception's weights can't be had."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common.figures import from_uint8
from common.hub import HubModel
from common.seeding import EndlessSampler, generator_at
from pipelines.evaluation.classifier import (
    Batches,
    ClassifierTrainingConfig,
    finished_classifier,
    fit,
)
from pipelines.evaluation.images.data import picture_batches
from pipelines.evaluation.speech.classifier import (
    TrainSpeechClassifierConfig,
    train_speech_classifier,
)
from stage1_tokenizer.images.data import ImageDataConfig, ImageDataset, augmented, load_images


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    name: str = "classifier"
    """What distances between its features are called after: FD(name)."""
    image_size: int = 8
    """Side of the square pictures, in pixels."""
    in_channels: int = 1
    """3 for colour, 1 for grey."""
    classes: tuple[str, ...] = ()
    """Names of the labels."""
    width: int = 16
    """Channels of the first of three stages; features have four times as many dimensions."""

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(
                f"classes={self.classes} must be at least 2: a classifier needs labelled pictures, set "
                "data.label_column"
            )
        if self.image_size < 8:
            raise ValueError(f"image_size={self.image_size} must be at least 8: set image_size")


class Residual(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm, beside the identity or a strided 1 x 1 convolution."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        same = channels == out_channels and stride == 1
        self.skip = (
            nn.Identity() if same else nn.Conv2d(channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.skip(x) + self.norm2(self.conv2(inner)))


class Classifier(HubModel):
    """Seven convolutions in three residual stages. Images are in [-1, 1]."""

    config_class = ClassifierConfig
    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        width = config.width
        self.stem = nn.Sequential(
            nn.Conv2d(config.in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            # most of the time would go into full-size pictures: the stages see 8 to 31 pixels
            nn.MaxPool2d(max(config.image_size // 16, 1)),
        )
        self.stages = nn.Sequential(
            Residual(width, width, 1),
            Residual(width, 2 * width, 2),
            Residual(2 * width, 4 * width, 2),
        )
        self.head = nn.Linear(4 * width, len(config.classes))

    def features(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f"]:
        """The last stage's output, averaged over the picture. Raises ValueError for a wrong size."""
        wanted = self.config.in_channels, self.config.image_size, self.config.image_size
        if images.shape[1:] != wanted:
            raise ValueError(
                f"pictures of {tuple(images.shape[1:])} (channels, height, width): this classifier was "
                f"trained on {wanted}; set classifier"
            )
        return self.stages(self.stem(images)).mean((2, 3))

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Unnormalised log-probabilities of the classes."""
        return self.head(self.features(images))


@dataclass(frozen=True, kw_only=True)
class TrainImageClassifierConfig(ClassifierTrainingConfig):
    """Trains a classifier, whose features stand in for Inception's."""

    modality: Literal["images"] = "images"
    """The key by which a file says what it is for: `speech` is TrainSpeechClassifierConfig's."""
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    """Labelled pictures."""
    image_size: int = 8
    """Side of the square pictures, in pixels."""
    in_channels: int = 1
    """3 for colour, 1 for grey."""
    width: int = 16
    """Channels of the first of three stages; 32 for CIFAR-10."""
    flip: bool = False
    """Mirror half of the pictures."""
    crop: bool = True
    """Shift pictures at random by up to an eighth of their side."""


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """(picture, label) of a (position, index): the position decides the augmentation."""

    def __init__(self, pictures: ImageDataset, config: TrainImageClassifierConfig) -> None:
        self.pictures, self.config = pictures, config

    def __getitem__(self, place: tuple[int, int]) -> tuple[Float[Tensor, "c y x"], int]:
        position, index = place
        config, row = self.config, self.pictures[index]
        generator = generator_at(config.seed, position)
        image = augmented(
            self.pictures.decode(row),
            config.image_size,
            generator,
            crop=config.crop,
            flip=config.flip,
        )
        if config.crop:
            image = shifted(image, config.image_size // 8, generator)
        return image, self.pictures.label(row)


def shifted(
    image: Float[Tensor, "c y x"], margin: int, generator: torch.Generator
) -> Float[Tensor, "c y x"]:
    """The picture moved by up to `margin` pixels, its border mirrored."""
    size = image.shape[-1]
    top, left = torch.randint(0, 2 * margin + 1, (2,), generator=generator).tolist()
    wide = F.pad(image[None], [margin] * 4, mode="reflect")[0]
    return wide[:, top : top + size, left : left + size]


def train_classifier(config: TrainImageClassifierConfig | TrainSpeechClassifierConfig) -> Path:
    """The folder of the trained classifier; one that is there already, of the same config, is left as is.

    Raises ValueError where a classifier of another config is in the way. The last line of metrics.jsonl
    has `heldout/accuracy`.
    """
    folder = finished_classifier(config)
    if folder is not None:
        return folder
    if isinstance(config, TrainSpeechClassifierConfig):
        return train_speech_classifier(config)
    if config.data.streaming:
        raise ValueError(
            "data.streaming=true can't be trained on in random order: set data.streaming=false"
        )
    shape = {"channels": config.in_channels, "size": config.image_size}
    train = load_images(config.data, "train", **shape)
    heldout = load_images(config.data, "validation", **shape)
    torch.manual_seed(config.seed)
    model = Classifier(
        ClassifierConfig(
            name=f"{data_name(config.data)}-classifier", classes=train.classes, width=config.width,
            image_size=config.image_size, in_channels=config.in_channels,
        )
    )  # fmt: skip
    return fit(
        model,
        lambda device: training_batches(train, config, device),
        lambda trained: accuracy(trained, heldout),
        config,
    )


def training_batches(
    train: ImageDataset, config: TrainImageClassifierConfig, device: torch.device
) -> Batches:
    """Endless batches of augmented pictures."""
    sampler = EndlessSampler(len(train), seed=config.seed)
    loader = DataLoader(AugmentedImages(train, config), config.batch_size, sampler=sampler)
    for images, labels in loader:
        yield (images.to(device, memory_format=torch.channels_last),), labels.to(device)


@torch.no_grad()
def accuracy(model: Classifier, pictures: ImageDataset) -> float:
    """Share of the pictures whose label the model finds."""
    device = model.head.weight.device
    right, count = torch.zeros((), device=device), 0
    for batch in picture_batches(pictures, batch_size=256):
        guessed = model(from_uint8(batch.images).to(device)).argmax(1)
        right += (guessed == batch.labels.to(device)).sum()
        count += len(batch.labels)
    return float(right) / count


def data_name(data: ImageDataConfig) -> str:
    """A short name of the data set: of its source, or of the folder with its Parquet files."""
    return Path(data.train).parent.name if data.source == "parquet" else Path(data.source).name
