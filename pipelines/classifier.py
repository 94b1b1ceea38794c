"""A small classifier of pictures: the feature extractor where Inception's weights can't be had."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from common.config import load_config
from common.hub import HubModel
from common.order import EndlessSampler, generator_at
from common.pictures import from_uint8
from common.training import OptimConfig, decay_groups, learning_rate, start_run
from pipelines.image_batches import picture_batches
from stage1_tokenizer.image_data import ImageDataConfig, Pictures, augmented, load_pictures


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
class TrainClassifierConfig:
    """Trains a classifier, whose features stand in for Inception's."""

    run_dir: Path
    """Where the run is written; the classifier is its folder `model`."""
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    """Labelled pictures."""
    image_size: int = 8
    """Side of the square pictures, in pixels."""
    in_channels: int = 1
    """3 for colour, 1 for grey."""
    width: int = 16
    """Channels of the first of three stages; 32 for CIFAR-10."""
    steps: int = 500
    """Optimizer steps."""
    batch_size: int = 64
    """Pictures per step."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=4e-3, betas=(0.9, 0.99), weight_decay=0.05, warmup_steps=50, final_lr_ratio=0.01
        )
    )
    """The optimizer."""
    seed: int = 0
    """Of the weights, the order and the augmentation."""
    flip: bool = False
    """Mirror half of the pictures."""
    crop: bool = True
    """Shift pictures at random by up to an eighth of their side."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""


class AugmentedPictures(Dataset[tuple[Tensor, int]]):
    """(picture, label) of a (position, index): the position decides the augmentation."""

    def __init__(self, pictures: Pictures, config: TrainClassifierConfig) -> None:
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


def train_classifier(config: TrainClassifierConfig) -> Path:
    """The folder of the trained classifier; one that is there already, of the same config, is left as is.

    Raises ValueError where a classifier of another config is in the way. The last line of metrics.jsonl
    has `heldout/accuracy`.
    """
    folder = config.run_dir / "model"
    if folder.exists():
        if load_config(TrainClassifierConfig, config.run_dir / "config.yaml") == config:
            return folder
        raise ValueError(
            f"{folder} holds a classifier of another config: set run_dir, or delete it"
        )
    if config.data.streaming:
        raise ValueError(
            "data.streaming=true can't be trained on in random order: set data.streaming=false"
        )
    shape = {"channels": config.in_channels, "size": config.image_size}
    train = load_pictures(config.data, "train", **shape)
    heldout = load_pictures(config.data, "validation", **shape)
    (config.run_dir / "metrics.jsonl").unlink(missing_ok=True)  # of a run that was stopped
    torch.manual_seed(config.seed)
    model = Classifier(
        ClassifierConfig(
            name=f"{data_name(config.data)}-classifier", classes=train.classes, width=config.width,
            image_size=config.image_size, in_channels=config.in_channels,
        )
    )  # fmt: skip
    fit(model, train, heldout, config)
    model.save_pretrained(folder)
    return folder


def fit(
    model: Classifier, train: Pictures, heldout: Pictures, config: TrainClassifierConfig
) -> None:
    """Trains the model where it stands, and logs."""
    accelerator = start_run(config, config.run_dir, "fp32", ())
    device = accelerator.device
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        decay_groups(model.named_parameters(), config.optim.weight_decay), betas=config.optim.betas
    )
    sampler = EndlessSampler(len(train), seed=config.seed)
    batches = iter(DataLoader(AugmentedPictures(train, config), config.batch_size, sampler=sampler))
    total = torch.zeros((), device=device)
    for step in tqdm(range(config.steps), desc="classifier", disable=None):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.optim)
        images, labels = next(batches)
        images = images.to(device, memory_format=torch.channels_last)
        loss = F.cross_entropy(model(images), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip)
        optimizer.step()
        total += loss.detach()
        if (step + 1) % config.log_every == 0 and step + 1 < config.steps:
            accelerator.log({"loss/train": float(total) / config.log_every}, step=step + 1)
            total.zero_()
    last = config.steps % config.log_every or config.log_every
    values = {
        "loss/train": float(total) / last,
        "heldout/accuracy": accuracy(model.eval(), heldout),
    }
    accelerator.log(values, step=config.steps)
    if not math.isfinite(values["loss/train"]):
        raise ValueError(f"optim.lr={config.optim.lr} made the loss infinite: set a lower optim.lr")


@torch.no_grad()
def accuracy(model: Classifier, pictures: Pictures) -> float:
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
