"""What is particular to pictures in the training of a tokenizer: batches, losses, what is watched."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from common.figures import save_grid
from common.metrics import psnr
from common.stopwatch import part
from stage1_tokenizer.batches import BadItems, training_batches
from stage1_tokenizer.codebook_usage import quantization_error
from stage1_tokenizer.health import position_share
from stage1_tokenizer.images.data import BadItemError, ImageDataConfig, ImageDataset, load_images
from stage1_tokenizer.images.discriminator import PatchDiscriminator
from stage1_tokenizer.images.losses import (
    ImageLossConfig,
    discriminator_hinge,
    generator_hinge,
    perceptual_distance,
    reconstruction_losses,
)
from stage1_tokenizer.images.tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import Quantized

MOST_DB = 106.02
"""The PSNR of an exact image in the log, which is infinite."""
HELD_OUT = 64
"""Held-out pictures watched in the log; the first 16 of them are drawn."""


class ImageModality:
    """The parts of an image tokenizer's training that the loop in `train` calls."""

    items = "images"
    """What the log counts per second."""

    def __init__(
        self,
        data: ImageDataConfig,
        model: ImageTokenizerConfig,
        loss: ImageLossConfig,
        augment: dict[str, bool],
        device: torch.device,
    ) -> None:
        def load(split: str) -> ImageDataset:
            return load_images(data, split, channels=model.in_channels, size=model.image_size)

        self.loss, self.augment = loss, augment
        self.pictures = load("train")
        self.held_out = held_out_pictures(load("validation")).to(device)
        self.model = ImageTokenizer(model)
        self.perceptual = perceptual_distance().to(device) if loss.perceptual_weight else None
        self.discriminator: nn.Module | None = None
        if loss.adversarial:
            shape = model.in_channels, loss.discriminator_width, loss.discriminator_layers
            self.discriminator = PatchDiscriminator(*shape)

    def batches(
        self, accelerator: Accelerator, *, batch_size: int, seed: int, done: int, workers: int
    ) -> Iterator[dict[str, Any]]:
        """Endless batches of this process with `images` on its device; bad pictures are counted."""
        rank, world = accelerator.process_index, accelerator.num_processes
        size = None if self.pictures.config.streaming else len(self.pictures) / world
        self.bad = BadItems(size)
        for batch in training_batches(
            self.pictures,
            batch_size=batch_size,
            seed=seed,
            done=done,
            rank=rank,
            world=world,
            workers=workers,
            augment=self.augment,
        ):
            self.bad.count(batch["bad"], batch["epoch"], len(batch["labels"]))
            batch["images"] = batch["images"].to(accelerator.device, non_blocking=True)
            yield batch

    def latents(self, batch: dict[str, Any]) -> Float[Tensor, "n d"]:
        """The encoder's output for a batch, from which the codebook starts."""
        return self.model.latents(batch["images"]).permute(0, 2, 3, 1).flatten(0, 2)

    def generator_losses(
        self, model: nn.Module, batch: dict[str, Any], adversary: nn.Module | None
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
            judged = generator_hinge(adversary(reconstruction))
            losses["adversarial"] = weights.adversarial_weight * judged
        return losses | quantized.losses, reconstruction.detach(), quantized

    def discriminator_loss(
        self, discriminator: nn.Module, batch: dict[str, Any], fake: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, ""]:
        """The discriminator's hinge loss on a batch and its reconstructions.

        They are judged apart: in one batch its batch normalisation would see the two mixed, where the
        generator meets it with reconstructions alone, and would be fooled by any shift of statistics.
        """
        return discriminator_hinge(discriminator(batch["images"]), discriminator(fake))

    @torch.no_grad()
    def watch(self) -> dict[str, float]:
        """PSNR of held-out pictures, decoded from their codes alone; what quantization loses; how much of
        the latents is their place."""
        latents = self.model.latents(self.held_out)
        decoded = self.model.rebuild(latents)
        vectors = rearrange(latents, "b d h w -> 1 (b h w) d")
        places = rearrange(latents, "b d h w -> b (h w) d")
        return {
            "heldout/psnr": float(
                psnr(self.held_out, decoded.clamp(-1, 1), 2).clamp_max(MOST_DB).mean()
            ),
            "heldout/quantization_error": quantization_error(self.model.quantizer, vectors),
            "latents/position_share": position_share(places),
        }

    def constant(self) -> dict[str, float]:
        """PSNR of the held-out pictures' mean, the best that one picture for all can do."""
        mean = self.held_out.mean(0, keepdim=True).expand_as(self.held_out)
        return {"constant/psnr": float(psnr(self.held_out, mean, 2).clamp_max(MOST_DB).mean())}

    def about(self) -> str:
        """The data set, the classes, and the bits of one picture."""
        streaming = self.pictures.config.streaming
        items = "a stream of pictures" if streaming else f"{len(self.pictures):,} pictures"
        rows, columns = self.model.config.grid
        bits = self.model.quantizer.spec.bits
        return (
            f"{items}, {len(self.pictures.classes)} classes, {len(self.held_out)} held-out pictures watched, "
            f"{bits:.4g} bits at each of {rows} x {columns} positions ({rows * columns * bits:,.0f} per picture)"
        )

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Held-out originals above their reconstructions."""
        shown = self.held_out[:16]
        save_grid([shown, self.model.reconstruct(shown)], path.with_suffix(".png"))


def held_out_pictures(pictures: ImageDataset) -> Float[Tensor, "b c y x"]:
    """The first decodable pictures of a split, at most 64."""
    found = []
    for row in pictures.rows:
        try:
            found.append(pictures.fixed(pictures.decode(row)))
        except BadItemError:
            continue
        if len(found) == HELD_OUT:
            break
    if not found:
        raise ValueError("the validation split has no decodable picture: set data.validation")
    return torch.stack(found)
