"""The training of an image tokenizer, apart from its loop: losses, gradients, what is held out, weights that lack."""

import dataclasses
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from helpers.image_runs import MODEL, tokenizer_config

from common.training import TrainingDivergedError
from stage1_tokenizer.codebook_usage import position_share, quantization_error
from stage1_tokenizer.images.data import load_images
from stage1_tokenizer.images.discriminator import PatchDiscriminator, smallest_side
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.images.training import ImageTraining, psnr
from stage1_tokenizer.train import train_tokenizer


def test_a_loss_that_breaks_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    config = tokenizer_config(
        tmp_path / "run",
        loss=ImageLossConfig(perceptual_weight=0, adversarial_weight=0, l1_weight=float("inf")),
        max_skipped_steps=2,
    )
    with pytest.raises(TrainingDivergedError, match="step 1, where l1=inf broke"):
        train_tokenizer(config)


def test_the_discriminator_has_no_gradient_of_the_generators(tmp_path: Path) -> None:
    config = tokenizer_config(tmp_path)
    modality = ImageTraining(config, torch.device("cpu"))
    assert modality.discriminator is not None
    modality.discriminator.requires_grad_(False)
    batch = {"images": modality.held_out[:4]}
    losses, _, _ = modality.generator_losses(modality.tokenizer, batch, modality.discriminator)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in modality.discriminator.parameters())
    assert modality.tokenizer.decoder.conv_out.weight.grad is not None


def test_held_out_images_are_spread_over_the_split(tmp_path: Path) -> None:
    config = tokenizer_config(tmp_path)
    data = load_images(config.data, "validation", channels=1, size=8)
    expected = torch.stack([data.view(data.decode(data[i])) for i in range(0, 360, 6)])
    assert torch.equal(ImageTraining(config, torch.device("cpu")).held_out, expected)


def test_held_out_images_pass_the_encoder_once(tmp_path: Path) -> None:
    config = tokenizer_config(tmp_path)
    modality = ImageTraining(config, torch.device("cpu"))
    passes: list[int] = []
    modality.tokenizer.eval().encoder.register_forward_hook(lambda *_: passes.append(1))
    evaluated = modality.evaluate()
    assert len(passes) == 1
    with torch.no_grad():
        latents = modality.latents({"images": modality.held_out})[None]
    decoded = modality.tokenizer.decode(modality.tokenizer.encode(modality.held_out)).clamp(-1, 1)
    positions = latents.unflatten(1, (len(modality.held_out), -1))[0]
    assert evaluated == pytest.approx(
        {
            "heldout/psnr": float(psnr(modality.held_out, decoded, 2).mean()),
            "heldout/quantization_error": quantization_error(modality.tokenizer.quantizer, latents),
            "latents/position_share": position_share(positions),
        },
        rel=1e-6,
    )


def test_lpips_without_its_weights_names_the_file_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"vgg16-397923af\.pth .* set loss\.perceptual_weight=0"):
        loss, model = ImageLossConfig(), dataclasses.replace(MODEL, image_size=32)
        train_tokenizer(tokenizer_config(tmp_path / "run", loss=loss, model=model))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_images_that_are_too_small_for_a_loss_are_refused_before_the_run(
    tmp_path: Path, layers: int
) -> None:
    side = smallest_side(layers)
    discriminator = PatchDiscriminator(1, 8, layers).eval()
    discriminator(torch.zeros(1, 1, side, side))
    with pytest.raises(RuntimeError):
        discriminator(torch.zeros(1, 1, side - 2, side - 2))
    model = dataclasses.replace(MODEL, image_size=side - 2)
    loss = ImageLossConfig(perceptual_weight=0, discriminator_layers=layers)
    with pytest.raises(ValueError, match=f"{side} pixels that loss.discriminator_layers={layers}"):
        tokenizer_config(tmp_path, model=model, loss=loss)
    late = dataclasses.replace(loss, adversarial_start=8)
    assert tokenizer_config(tmp_path, model=model, loss=late, steps=8).loss == late
    loss = ImageLossConfig(adversarial_weight=0)
    with pytest.raises(ValueError, match=r"LPIPS needs: set loss\.perceptual_weight=0, or model"):
        tokenizer_config(tmp_path, loss=loss)


def test_psnr_is_known_for_a_constant_error() -> None:
    images = torch.zeros(2, 1, 4, 4)
    others = images + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)
    assert psnr(images, others, 2).tolist() == pytest.approx([20, 40], abs=1e-3)
