"""A small classifier of images: its labels and its features score images."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from common.bounds import Count
from common.hub import HubModel
from common.images import from_uint8
from pipelines.evaluation.config import ImageArchitecture, TrainImageClassifierConfig
from pipelines.evaluation.extractors import classifier_name
from pipelines.evaluation.images.data import image_batches
from stage1_tokenizer.batches import Item, bad_items_of, item_loader
from stage1_tokenizer.data import Row
from stage1_tokenizer.images.data import augmented, load_images


@dataclass(frozen=True, kw_only=True)
class ImageClassifierConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    name: str = "classifier"
    """What distances between its features are called after: FD(name)."""
    image_size: Count = 8
    """Side of the square images, in pixels."""
    in_channels: Count = 1
    """3 for colour, 1 for grey."""
    classes: tuple[str, ...] = ()
    """Names of the labels."""
    width: Count = 16
    """Channels of the first of three stages; features have four times as many dimensions."""
    architecture: ImageArchitecture = "residual"

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(
                f"classes={self.classes} must be at least 2: a classifier needs labelled images, set "
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


class Mixing(nn.Module):
    """A convolution of each channel beside the identity, then one across channels (ConvMixer, arXiv 2201.09792)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        within = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.space = nn.Sequential(within, nn.GELU(), nn.BatchNorm2d(width))
        self.channels = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.channels(x + self.space(x))


def residual_stages(channels: int, width: int, image_size: int) -> tuple[nn.Module, nn.Module]:
    """Seven convolutions: the first, and three stages of two."""
    stem = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        # most of the time would go into full-size images: the stages see 8 to 31 pixels
        nn.MaxPool2d(max(image_size // 16, 1)),
    )
    stages = nn.Sequential(
        Residual(width, width, 1),
        Residual(width, 2 * width, 2),
        Residual(2 * width, 4 * width, 2),
    )
    return stem, stages


def patch_stages(channels: int, width: int, image_size: int) -> tuple[nn.Module, nn.Module]:
    """About 8 x 8 patches without overlap, and four mixing layers."""
    side = max(image_size // 8, 1)
    embedding = nn.Conv2d(channels, 4 * width, side, side)
    stem = nn.Sequential(embedding, nn.GELU(), nn.BatchNorm2d(4 * width))
    return stem, nn.Sequential(*(Mixing(4 * width) for _ in range(4)))


class ImageClassifier(HubModel):
    """Either architecture, then the mean over the image and a linear map. Images are in [-1, 1]."""

    config_class = ImageClassifierConfig
    config: ImageClassifierConfig

    def __init__(self, config: ImageClassifierConfig) -> None:
        super().__init__(config)
        new_stages = patch_stages if config.architecture == "patches" else residual_stages
        self.stem, self.stages = new_stages(config.in_channels, config.width, config.image_size)
        self.head = nn.Linear(4 * config.width, len(config.classes))

    def features(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f"]:
        """The last stage's output, averaged over the image. Raises ValueError for a wrong size."""
        wanted = self.config.in_channels, self.config.image_size, self.config.image_size
        if images.shape[1:] != wanted:
            raise ValueError(
                f"images of {tuple(images.shape[1:])} (channels, height, width): this classifier was "
                f"trained on {wanted}; set classifier"
            )
        return self.stages(self.stem(images)).mean((2, 3))

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Unnormalised log-probabilities of the classes."""
        return self.head(self.features(images))


def shifted(
    image: Float[Tensor, "c y x"], margin: int, generator: torch.Generator
) -> Float[Tensor, "c y x"]:
    """The image moved by up to `margin` pixels, its border mirrored."""
    size = image.shape[-1]
    top, left = torch.randint(0, 2 * margin + 1, (2,), generator=generator).tolist()
    wide = F.pad(image[None], [margin] * 4, mode="reflect")[0]
    return wide[:, top : top + size, left : left + size]


class ImageClassifierTask:
    """The parts of training a classifier of images that the loop calls."""

    def __init__(self, config: TrainImageClassifierConfig) -> None:
        if config.data.streaming:
            raise ValueError(
                "data.streaming=true can't be trained on in random order: set data.streaming=false"
            )
        shape = {"channels": config.in_channels, "size": config.image_size}
        self.config = config
        self.train = load_images(config.data, "train", **shape)
        self.heldout = load_images(config.data, "validation", **shape)

    def new_model(self) -> ImageClassifier:
        """The network with new weights."""
        config = self.config
        return ImageClassifier(
            ImageClassifierConfig(
                name=classifier_name(config.data, config.architecture, "residual"),
                architecture=config.architecture,
                classes=self.train.classes,
                width=config.width,
                image_size=config.image_size,
                in_channels=config.in_channels,
            )
        )

    def training_item(self, row: Row, generator: torch.Generator) -> Item:
        """An image, augmented as the generator says, and its label."""
        config = self.config
        image = augmented(
            self.train.decode(row), config.image_size, generator, crop=config.crop, flip=config.flip
        )
        if config.crop:
            image = shifted(image, config.image_size // 8, generator)
        return {"images": image, "labels": self.train.label(row)}

    def train_batches(self, device: torch.device) -> Iterator[tuple[tuple[Tensor], Tensor]]:
        """Endless batches of augmented images, and their labels.

        Raises ValueError where over 1 % of an epoch's images can't be decoded.
        """
        config, size, bad_items = self.config, self.config.batch_size, bad_items_of(self.train)
        for batch in item_loader(
            self.train,
            self.training_item,
            batch_size=size,
            seed=config.seed,
            workers=config.workers,
        ):
            bad_items.count(batch["bad"], batch["epoch"], size)
            images = batch["images"].to(
                device, memory_format=torch.channels_last, non_blocking=True
            )
            yield (images,), batch["labels"].to(device, non_blocking=True)

    def heldout_batches(self, device: torch.device) -> Iterator[tuple[tuple[Tensor], Tensor]]:
        """All held-out images once, and their labels."""
        for batch in image_batches(self.heldout, batch_size=256):
            yield (from_uint8(batch.images).to(device),), batch.labels.to(device)
