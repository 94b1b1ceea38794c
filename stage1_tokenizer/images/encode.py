"""Images in encode: their views and the codes of these."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from datasets import Features, List, Value
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import Count
from common.codes import code_dtype
from stage1_tokenizer.config import EncodeConfig
from stage1_tokenizer.data import Row
from stage1_tokenizer.images.data import VIEWS, ImageDataConfig, load_images, views
from stage1_tokenizer.images.tokenizer import ImageTokenizer

CACHED = 2**20
"""Values of the widest activation at once on a CPU: 4 MB, which fit its cache."""


@dataclass(frozen=True, kw_only=True)
class EncodeImagesConfig(EncodeConfig):
    """Writes the codes of images: `simvq encode CONFIG [key=value ...]`."""

    modality: Literal["images"] = "images"
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    views: tuple[str, ...] = ("centre",)
    """Views of each training item: `centre`, `top-left`, `top-right`, `bottom-left`, `bottom-right`, and each of them
    with `-flip`. All ten are LlamaGen's ten-crop. Held-out items have the one view `centre`."""
    batch_size: Count = 256
    """Images encoded at once."""

    def __post_init__(self) -> None:
        possible = [place + flip for flip in ("", "-flip") for place in VIEWS]
        if not self.views:
            raise ValueError("views=() must name at least one: set views")
        for name in self.views:
            if name not in possible:
                raise ValueError(f"view {name!r} is not one of {', '.join(possible)}: set views")


class ImageEncoding:
    """The views of images, and their codes."""

    config_class = EncodeImagesConfig

    def __init__(self, config: EncodeImagesConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.tokenizer: ImageTokenizer = ImageTokenizer.from_pretrained(config.tokenizer).to(device)
        architecture = self.tokenizer.config
        self.splits = {
            split: load_images(
                config.data, split, channels=architecture.in_channels, size=architecture.image_size
            )
            for split in config.data.splits
        }
        spec = self.tokenizer.quantizer.spec
        height, width = architecture.grid
        self.dtype = code_dtype(spec.alphabet)
        self.columns = Features(codes=List(Value(self.dtype), length=height * width * spec.levels))

    @property
    def layout(self) -> dict[str, Any]:
        """The grid of an image's codes, and their order."""
        return {"grid": list(self.tokenizer.config.grid), "order": "raster"}

    def views(self, split: str) -> tuple[str, ...]:
        """The views of each image of a split."""
        return self.config.views if split == "train" else ("centre",)

    def load(self, split: str, row: Row) -> dict[str, Any]:
        """The views of one image. Raises BadItemError."""
        dataset = self.splits[split]
        return {"views": views(dataset.decode(row), dataset.size, self.views(split))}

    def encode(self, split: str, items: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The codes of each view of a batch of images, position by position, in raster order."""
        images = torch.cat([item["views"] for item in items]).to(self.device)
        codes = encoded(self.tokenizer, images).flatten(1).cpu().numpy()
        return {"codes": list(codes.astype(self.dtype))}


@torch.inference_mode()
def encoded(
    tokenizer: ImageTokenizer, images: Float[Tensor, "b c y x"]
) -> Int[Tensor, "b h w *levels"]:
    """The codes of a batch, as `tokenizer.encode` gives them; on a CPU the encoder sees parts whose activations stay
    in its cache."""
    part = len(images)
    if images.device.type == "cpu":
        part = max(CACHED // (tokenizer.config.width * images[0, 0].numel()), 1)
    with tokenizer.exactly():
        parts = images.to(tokenizer.dtype).split(part)
        latents = torch.cat([tokenizer.latents(some) for some in parts])
        return tokenizer.quantizer.encode(rearrange(latents, "b d h w -> b h w d"))
