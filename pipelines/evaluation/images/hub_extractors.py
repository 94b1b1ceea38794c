"""CLIP and DINOv2 as extractors: transformers' networks, from folders or the Hub's cache, in safetensors alone."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torchvision.transforms.functional import normalize
from transformers import AutoConfig, CLIPVisionModelWithProjection, Dinov2Model

DINO_HUB = {
    "dinov2-vit-s-14": "facebook/dinov2-small",
    "dinov2-vit-b-14": "facebook/dinov2-base",
    "dinov2-vit-l-14": "facebook/dinov2-large",
    "dinov2-vit-g-14": "facebook/dinov2-giant",
}
CLIP_HUB = {
    "clip-vit-b-32": "openai/clip-vit-base-patch32",
    "clip-vit-b-16": "openai/clip-vit-base-patch16",
    "clip-vit-l-14": "openai/clip-vit-large-patch14",
    "clip-vit-l-14-336px": "openai/clip-vit-large-patch14-336",
}
HUB = DINO_HUB | CLIP_HUB
"""The repositories of the networks, by the names that torch-fidelity registers them under."""
DINO_SIDE = 224
"""Pixels of a side; its position embeddings are for more, and are interpolated."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class HubExtractor:
    """CLIP's projected embedding, or DINOv2's class token, of images resized to the network's side.

    CLIP's are resized as CMMD's authors do it (bicubic, not antialiased), DINOv2's as FDD's (Pillow's bicubic, as
    clean-fid has it). Named by torch-fidelity's name where the weights come from the Hub's repository of that name,
    else by their hash. Raises ValueError for weights that can't be had.
    """

    published = False

    def __init__(self, name: str, allow_download: bool, device: torch.device) -> None:
        source = name if Path(name).is_dir() else HUB.get(name)
        if source is None:
            raise ValueError(
                f"extractors={name} is neither a folder nor one of {', '.join(HUB)}: set score.extractors"
            )
        options: Any = {"local_files_only": not allow_download}
        try:
            kind = AutoConfig.from_pretrained(source, **options).model_type
            self.is_clip = kind.startswith("clip")
            if not self.is_clip and kind != "dinov2":
                raise ValueError(f"it is a {kind}, not CLIP or DINOv2")
            network: Any = CLIPVisionModelWithProjection if self.is_clip else Dinov2Model
            loaded: Any = network.from_pretrained(
                source,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
        except (OSError, ValueError, SafetensorError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise ValueError(
                f"extractors={name} can't be loaded ({reason}): set score.extractors to a folder with config.json and "
                "model.safetensors, or score.allow_download=true"
            ) from None
        model, info = loaded
        if info["missing_keys"]:  # transformers would go on with random weights
            missing = ", ".join(sorted(info["missing_keys"])[:3])
            raise ValueError(f"extractors={name} lacks the weights {missing}: set score.extractors")
        self.model, self.device = model.to(device).eval(), device
        self.sha256 = weights_sha256(model)
        self.name = name if source != name else f"{kind.split('_')[0]}-of-{self.sha256[:8]}"
        self.side = model.config.image_size if self.is_clip else DINO_SIDE

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b f"]]:
        """The features twice: there are no classes. Grey becomes three equal channels."""
        colour = images.expand(-1, 3, -1, -1)
        if self.is_clip:
            pixels = F.interpolate(colour.to(self.device).float(), self.side, mode="bicubic")
            features = self.model(pixel_values=normalize(pixels / 255, *OPENAI)).image_embeds
        else:
            pixels = bicubic(colour, self.side).to(self.device)
            features = self.model(pixel_values=normalize(pixels / 255, *IMAGENET)).pooler_output
        return features, features


def weights_sha256(model: torch.nn.Module) -> str:
    """The SHA-256 of a network's weights, whatever the files that they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def bicubic(images: UInt8[Tensor, "b c y x"], side: int) -> Float[Tensor, "b c side side"]:
    """Images of 0 to 255, resized by Pillow's bicubic filter in floating point and clipped: clean-fid's way."""
    resized = [
        [
            np.asarray(Image.fromarray(channel).resize((side, side), Image.Resampling.BICUBIC))
            for channel in image
        ]
        for image in images.cpu().float().numpy()
    ]
    return torch.from_numpy(np.array(resized)).clamp(0, 255)
