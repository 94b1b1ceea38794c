"""Images in the training of a tokenizer: batches, losses, metrics, examples."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from common.images import save_grid, to_uint8
from common.metrics import psnr
from common.stopwatch import part
from stage1_tokenizer.batches import Batch, training_batches
from stage1_tokenizer.codebook_usage import position_share, quantization_error
from stage1_tokenizer.config import TrainTokenizerConfig
from stage1_tokenizer.data import held_out_items
from stage1_tokenizer.images.data import ImageAugmentConfig, ImageDataConfig, load_images
from stage1_tokenizer.images.discriminator import PatchDiscriminator, smallest_side
from stage1_tokenizer.images.losses import (
    PERCEPTUAL_SIDE,
    ImageLossConfig,
    discriminator_hinge,
    generator_hinge,
    perceptual_distance,
    reconstruction_losses,
)
from stage1_tokenizer.images.tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import Quantized


@dataclass(frozen=True, kw_only=True)
class TrainImageTokenizerConfig(TrainTokenizerConfig):
    """Trains a tokenizer of images: `simvq train-tokenizer CONFIG [key=value ...]`."""

    modality: Literal["images"] = "images"
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    augment: ImageAugmentConfig = field(default_factory=ImageAugmentConfig)
    model: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    loss: ImageLossConfig = field(default_factory=ImageLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        size, loss = self.model.image_size, self.loss
        if loss.perceptual_weight and size < PERCEPTUAL_SIDE:
            raise ValueError(
                f"image_size={size} is less than the {PERCEPTUAL_SIDE} pixels that LPIPS needs: set "
                "loss.perceptual_weight=0, or model.image_size"
            )
        least = smallest_side(loss.discriminator_layers)
        if loss.adversarial and loss.adversarial_start < self.steps and size < least:
            raise ValueError(
                f"image_size={size} is less than the {least} pixels that loss.discriminator_layers="
                f"{loss.discriminator_layers} need: set fewer of them, loss.adversarial_weight=0, or model.image_size"
            )


HELD_OUT = 64
"""Held-out images that are evaluated, at the most, spread over the split."""
EXAMPLES = 16
"""Images that are saved as examples, at the most, spread over those that are evaluated."""


class ImageTraining:
    """What the training loop needs of images."""

    config_class = TrainImageTokenizerConfig
    items = "images"

    def __init__(self, config: TrainImageTokenizerConfig, device: torch.device) -> None:
        model, loss = config.model, config.loss
        load = partial(load_images, config.data, channels=model.in_channels, size=model.image_size)
        self.loss, self.augment = loss, config.augment
        self.train_set = load("train")
        held_out = load("validation")
        images = held_out_items(held_out, HELD_OUT, lambda row: held_out.view(held_out.decode(row)))
        self.held_out = torch.stack(images).to(device)
        self.tokenizer = ImageTokenizer(model)
        self.perceptual = perceptual_distance().to(device) if loss.perceptual_weight else None
        self.discriminator: nn.Module | None = None
        if loss.adversarial:
            shape = model.in_channels, loss.discriminator_width, loss.discriminator_layers
            self.discriminator = PatchDiscriminator(*shape)

    def batches(self, accelerator: Accelerator, **settings: int) -> Iterator[Batch]:
        """Endless batches with `images`."""
        load = partial(self.train_set.training_item, augment=self.augment)
        return training_batches(self.train_set, load, accelerator, **settings)

    def latents(self, batch: Batch) -> Float[Tensor, "n d"]:
        """The encoder's output for a batch, from which the codebook is initialised."""
        return self.tokenizer.latents(batch["images"]).permute(0, 2, 3, 1).flatten(0, 2)

    def generator_losses(
        self, model: nn.Module, batch: Batch, adversary: nn.Module | None
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b c y x"], Quantized]:
        """The weighted losses of encoder, decoder and quantizer, the reconstructions, and the codes."""
        images, weights = batch["images"], self.loss
        with part("forward"):
            reconstruction, quantized = model(images)
        assert isinstance(quantized, Quantized)
        losses = reconstruction_losses(reconstruction.float(), images, weights)
        if self.perceptual is not None:
            distance = self.perceptual(reconstruction, images).float().mean()
            losses["perceptual"] = weights.perceptual_weight * distance
        if adversary is not None:
            hinge = generator_hinge(adversary(reconstruction))
            losses["adversarial"] = weights.adversarial_weight * hinge
        return losses | quantized.losses, reconstruction.detach(), quantized

    def discriminator_loss(
        self, discriminator: nn.Module, batch: Batch, fake: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, ""]:
        """The discriminator's hinge loss; real and fake pass apart, so that batch norm never mixes their statistics."""
        return discriminator_hinge(discriminator(batch["images"]), discriminator(fake))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """PSNR of held-out images, decoded from their codes alone; what quantization loses; how much of
        the latents is their position."""
        latents = self.tokenizer.latents(self.held_out)
        decoded = self.tokenizer.rebuild(latents)
        vectors = rearrange(latents, "b d h w -> 1 (b h w) d")
        return {
            "heldout/psnr": float(psnr(self.held_out, decoded.clamp(-1, 1), 2).mean()),
            "heldout/quantization_error": quantization_error(self.tokenizer.quantizer, vectors),
            "latents/position_share": position_share(rearrange(latents, "b d h w -> b (h w) d")),
        }

    def evaluate_constant(self) -> dict[str, float]:
        """PSNR of the held-out images' mean, the best that one image for all can do; of one alone, of its mean colour."""
        dims = (0,) if len(self.held_out) > 1 else (2, 3)
        mean = self.held_out.mean(dims, keepdim=True).expand_as(self.held_out)
        return {"constant/psnr": float(psnr(self.held_out, mean, 2).mean())}

    def describe(self) -> str:
        """The data set, the classes, and the bits of one image."""
        data = self.train_set
        height, width = self.tokenizer.config.grid
        bits = self.tokenizer.quantizer.spec.bits
        return (
            f"{data.counted('images')}, {len(data.classes)} classes, {len(self.held_out)} held-out images evaluated, "
            f"{bits:.4g} bits at each of {height} x {width} positions ({height * width * bits:,.0f} per image)"
        )

    def save_examples(self, path: Path) -> None:
        """Held-out originals above their reconstructions."""
        originals = self.held_out[:: -(-len(self.held_out) // EXAMPLES)]
        lines = [to_uint8(originals), to_uint8(self.tokenizer.reconstruct(originals))]
        save_grid(lines, path.with_suffix(".png"))
