"""Encoding a data set against a loop over `tokenizer.encode` with a plain DataLoader.

The images are sampled from a seed, as JPEG in Parquet files; the tokenizer is that of configs/cifar10_cpu.yaml,
untrained, and each item has that experiment's two views. Both ways read the files, decode, encode and write all
codes; ours also writes the manifest. Beside them stands the rate of encoder and search alone, on
images that lie in memory, which neither can pass.

Where the time goes on a CPU (one thread, the float32 that exact codes ask for): an image costs the encoder 0.15
GFLOP and 0.8 to 0.9 ms, the search among 16,384 codes nearly as much, an item's decoding and two views
0.1 ms. In batches of 256 the encoder took 1.3 to 1.4 ms: each layer's activations, 33 MB, are more than the
cache holds and than the C library keeps, and a third of the time went into asking the system for
memory. Hence parts of 32; their codes are the same. channels_last is slower here, as it is in training.
"""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import functional as TF

import stage1_tokenizer.encode
from benchmarks.side_by_side import DEVICE, alternate, report, weighed
from benchmarks.tokenizer_step import cifar10_cpu
from common.config import load_config
from stage1_tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.images.encode import EncodeImagesConfig, encoded

NAME = "encode"
SPLITS = ("train", "validation")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is timed; the defaults are the published table's."""

    train: int = 2048
    """Items of the training split, which are encoded as they are and mirrored."""
    validation: int = 256
    batch_size: int = 256
    """Of the plain loop and of `encode`, whose default it is."""
    small_batch_size: int = 64
    """Of the plain loop, a second time."""
    rounds: int = 5

    @property
    def images(self) -> int:
        """All that is encoded, views counted one by one."""
        return 2 * self.train + self.validation


def compare(sizes: Sizes) -> dict[str, Any]:
    """Seconds of a whole data set each way, and GiB that it adds."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_data(sizes, cifar10_cpu(sizes.batch_size).model, folder)
        ways = {
            "plain": plain_way(folder, sizes.batch_size),
            "plain, small": plain_way(folder, sizes.small_batch_size),
            "ours": our_way(folder, sizes.batch_size),
            "alone": alone(folder, sizes),
        }
        seconds = alternate(ways, sizes.rounds, DEVICE)
        gib = {
            "plain": weighed(plain_way, folder, sizes.batch_size),
            "plain, small": weighed(plain_way, folder, sizes.small_batch_size),
            "ours": weighed(our_way, folder, sizes.batch_size),
        }
    return {"images": sizes.images, "seconds": seconds, "gib": gib}


def write_data(sizes: Sizes, model: ImageTokenizerConfig, folder: Path) -> None:
    """Writes images of coarse random colours as JPEG, in a Parquet file per split, and a tokenizer."""
    rng, side = np.random.default_rng(0), model.image_size
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    for split in SPLITS:
        rows = []
        for index in range(getattr(sizes, split)):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            stored = io.BytesIO()
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(stored, "JPEG", quality=90)
            image = {"bytes": stored.getvalue(), "path": f"{index}.jpg"}
            rows.append({"image": image, "label": index % 10})
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}.parquet")
    torch.manual_seed(0)
    ImageTokenizer(model).save_pretrained(folder / "model")


class PlainImages(TorchDataset[tuple[Tensor, int]]):
    """Decoded rows as tensors in [-1, 1], with their mirror images in the training split."""

    def __init__(self, folder: Path, split: str) -> None:
        files = str(folder / f"{split}.parquet")
        self.rows = datasets.load_dataset("parquet", data_files=files, split="train")
        self.mirrored = split == "train"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.rows[index]
        image = TF.pil_to_tensor(row["image"].convert("RGB")).float() / 127.5 - 1
        views = [image, image.flip(-1)] if self.mirrored else [image]
        return torch.stack(views), row["label"]


def plain_way(folder: Path, batch_size: int) -> Callable[[], dict[str, np.ndarray]]:
    """A loop that decodes, stacks, encodes and appends."""

    def work() -> dict[str, np.ndarray]:
        tokenizer = ImageTokenizer.from_pretrained(folder / "model").to(DEVICE).eval()
        encoded_splits = {}
        for split in SPLITS:
            codes, labels = [], []
            for images, label in DataLoader(PlainImages(folder, split), batch_size):
                batch = images.flatten(0, 1).to(DEVICE)
                codes.append(tokenizer.encode(batch).flatten(1).cpu())
                labels.append(label)
            encoded_splits[split] = torch.cat(codes).numpy().astype(np.uint16)
            np.savez(
                folder / f"{split}.npz",
                codes=encoded_splits[split],
                labels=torch.cat(labels).numpy(),
            )
        return encoded_splits

    return work


def our_way(folder: Path, batch_size: int) -> Callable[[], Path]:
    """`simvq encode`, each time into a folder of its own."""

    def work() -> Path:
        config = EncodeImagesConfig(
            tokenizer=folder / "model",
            out=Path(mkdtemp(dir=folder)),
            data=ImageDataConfig(
                source="parquet",
                train=str(folder / "train.parquet"),
                validation=str(folder / "validation.parquet"),
            ),
            views=("centre", "centre-flip"),
            batch_size=batch_size,
        )
        stage1_tokenizer.encode.encode(config)
        return config.out

    return work


def alone(folder: Path, sizes: Sizes) -> Callable[[], None]:
    """Encoder and search on as many images, of one batch that lies in memory."""
    tokenizer = ImageTokenizer.from_pretrained(folder / "model").to(DEVICE).eval()
    side, channels = tokenizer.config.image_size, tokenizer.config.in_channels
    images = torch.rand(min(sizes.batch_size, sizes.images), channels, side, side) * 2 - 1
    images = images.to(DEVICE)

    def work() -> None:
        for start in range(0, sizes.images, len(images)):
            encoded(tokenizer, images[: sizes.images - start])

    return work


HEADER = ("way", "images/s", "ours against it", "of encoder and search alone", "GiB")


def rows(facts: dict[str, Any]) -> Sequence[Sequence[str]]:
    """A line for each way."""
    seconds = {way: timing.median for way, timing in facts["seconds"].items()}
    return [
        [
            way,
            f"{facts['images'] / took:.0f}",
            f"{took / seconds['ours']:.2f}x",
            f"{seconds['alone'] / took:.0%}",
            f"{facts['gib'][way]:.2f}" if way in facts["gib"] else "",
        ]
        for way, took in seconds.items()
    ]


if __name__ == "__main__":
    measured = compare(load_config(Sizes, None, sys.argv[1:]))
    report(NAME, HEADER, rows(measured), measured)
