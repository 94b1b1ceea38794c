"""What is particular to pictures in encode: the request, the columns, views and their codes."""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Features, List, Value
from jaxtyping import Float, Int
from torch import Tensor

from common.config import to_plain
from common.hub import local_folder, sha256
from stage1_tokenizer.encode_config import EncodeImagesConfig
from stage1_tokenizer.images.data import Row, load_images
from stage1_tokenizer.images.tokenizer import ImageTokenizer


@dataclass
class LoadedPicture:
    """One item's views, in memory."""

    item: int
    label: int
    views: Tensor


class ImageEncoding:
    """The parts of encoding pictures that `encode` calls."""

    def __init__(self, config: EncodeImagesConfig, device: torch.device) -> None:
        self.config = config
        self.folder = local_folder(config.tokenizer)
        self.tokenizer = ImageTokenizer.from_pretrained(self.folder).to(device)
        self.device = device
        architecture = self.tokenizer.config
        self.splits = {
            split: load_images(
                config.data, split, channels=architecture.in_channels, size=architecture.image_size
            )
            for split in ("train", "validation")
        }

    @property
    def request(self) -> dict[str, Any]:
        """What the codes depend on: what a folder of them must agree with."""
        architecture, config = self.tokenizer.config, self.config
        return {
            "tokenizer_sha256": sha256(self.folder / "model.safetensors"),
            "codebook_size": self.tokenizer.quantizer.spec.alphabet,
            "levels": self.tokenizer.quantizer.spec.levels,
            "grid": list(architecture.grid),
            "order": "raster",
            "views": list(config.views),
            "format": config.format,
            "shard_items": config.shard_items,
            "classes": list(self.splits["train"].classes),
            "data": to_plain(config.data),
            "fingerprints": {name: pictures.fingerprint for name, pictures in self.splits.items()},
        }

    @property
    def features(self) -> Features:
        """The columns of a shard."""
        rows, columns = self.tokenizer.config.grid
        dtype = code_dtype(self.tokenizer.quantizer.spec.alphabet)
        return Features(
            item=Value("int64"),
            view=Value("string"),
            label=Value("int64"),
            codes=List(Value(dtype), length=rows * columns * self.tokenizer.quantizer.spec.levels),
        )

    def views(self, split: str) -> tuple[str, ...]:
        """The views of each item of a split."""
        return self.config.views if split == "train" else ("centre",)

    def load(self, split: str, item: int, row: Row) -> LoadedPicture:
        """One item, decoded. Raises BadItemError."""
        pictures = self.splits[split]
        picture = pictures.decode(row)
        views = torch.stack([pictures.fixed(picture, name) for name in self.views(split)])
        return LoadedPicture(item, pictures.label(row), views)

    def encode(self, split: str, items: list[LoadedPicture]) -> dict[str, list[Any]]:
        """The columns of a batch of items; codes position by position, in raster order."""
        views = self.views(split)
        images = torch.cat([item.views for item in items])
        codes = encoded(self.tokenizer, images.to(self.device)).flatten(1).cpu().numpy()
        dtype = code_dtype(self.tokenizer.quantizer.spec.alphabet)
        return {
            "item": [item.item for item in items for _ in views],
            "view": list(views) * len(items),
            "label": [item.label for item in items for _ in views],
            "codes": list(codes.astype(dtype)),
        }


CACHED = 2**20
"""Values of a network's widest activation, 4 MB, that stay in a processor's cache; several times as many do
not, and are given back to the system and asked for again by each layer."""


@torch.inference_mode()
def encoded(
    tokenizer: ImageTokenizer, images: Float[Tensor, "b c y x"]
) -> Int[Tensor, "b h w *levels"]:
    """The codes of a batch; on a CPU in parts whose activations stay in its cache."""
    part = len(images)
    if images.device.type == "cpu":
        part = max(CACHED // (tokenizer.config.width * images[0, 0].numel()), 1)
    return torch.cat([tokenizer.encode(some) for some in images.split(part)])


def code_dtype(codebook_size: int) -> str:
    """The smallest type of the two that are written which holds all codes."""
    return "uint16" if codebook_size <= 65_536 else "uint32"
