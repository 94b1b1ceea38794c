"""The training of an image tokenizer, apart from its loop: losses, gradients, what is held out, weights that lack."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from helpers.image_runs import tokenizer_config

from common.training import TrainingDivergedError
from stage1_tokenizer.codebook_usage import position_share, quantization_error
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.images.training import ImageModality, psnr
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
    augment = {"crop": False, "flip": False}
    task = ImageModality(config.data, config.model, config.loss, augment, torch.device("cpu"))
    assert task.discriminator is not None
    task.discriminator.requires_grad_(False)
    batch = {"images": task.held_out[:4]}
    losses, _, _ = task.generator_losses(task.model, batch, task.discriminator)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in task.discriminator.parameters())
    assert task.model.decoder.conv_out.weight.grad is not None


def test_held_out_pictures_pass_the_encoder_once(tmp_path: Path) -> None:
    config = tokenizer_config(tmp_path)
    augment = {"crop": False, "flip": False}
    task = ImageModality(config.data, config.model, config.loss, augment, torch.device("cpu"))
    passes: list[int] = []
    task.model.eval().encoder.register_forward_hook(lambda *_: passes.append(1))
    watched = task.watch()
    assert len(passes) == 1
    with torch.no_grad():
        latents = task.latents({"images": task.held_out})[None]
    made = task.model.decode(task.model.encode(task.held_out)).clamp(-1, 1)
    places = latents.unflatten(1, (len(task.held_out), -1))[0]
    assert watched == pytest.approx(
        {
            "heldout/psnr": float(psnr(made, task.held_out).mean()),
            "heldout/quantization_error": quantization_error(task.model.quantizer, latents),
            "latents/position_share": position_share(places),
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
        train_tokenizer(tokenizer_config(tmp_path / "run", loss=ImageLossConfig()))


def test_psnr_is_known_for_a_constant_error() -> None:
    images = torch.zeros(2, 1, 4, 4)
    assert psnr(
        images, images + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)
    ).tolist() == pytest.approx([20, 40], abs=1e-3)
