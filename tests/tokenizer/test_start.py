"""Every shipped tokenizer starts listening and looking: latents that vary with the input and not with their place."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.experiment import read_experiment
from stage1_tokenizer import (
    ImageTokenizer,
    ImageTokenizerConfig,
    SpeechTokenizer,
    SpeechTokenizerConfig,
)
from stage1_tokenizer.codebook_usage import position_share
from stage1_tokenizer.speech.losses import MelDistance
from stage1_tokenizer.speech.net import Conv

CONFIGS = Path(__file__).parents[2] / "configs"


def shipped(modality: str) -> Iterator[tuple[str, object]]:
    """Each recipe's architecture, by its name, and the one that keys have by default."""
    for path in sorted(CONFIGS.glob("*.yaml")):
        config = read_experiment(path).config("tokenizer")
        if config.modality == modality:
            yield path.stem, config.model
    yield "default", SpeechTokenizerConfig() if modality == "speech" else ImageTokenizerConfig()


SLOW = {"default": pytest.mark.slow}
"""The paper's size."""
SPEECH, IMAGES = dict(shipped("speech")), dict(shipped("images"))


def sounds(model: SpeechTokenizerConfig, count: int = 12) -> torch.Tensor:
    """Half seconds as quiet as speech: coloured noise that swells at random, each with a pause."""
    generator = torch.Generator().manual_seed(0)
    size = round(0.5 * model.sample_rate)
    noise = torch.randn(count, size, generator=generator)
    coloured = torch.nn.functional.avg_pool1d(noise[:, None], 9, 1, 4)[:, 0]
    swell = torch.nn.functional.interpolate(
        torch.rand(count, 1, 8, generator=generator), size, mode="linear"
    )[:, 0]
    return 0.2 * coloured * swell * (swell > 0.3)


@pytest.mark.parametrize("name", SPEECH)
def test_speech_latents_follow_the_sound(name: str) -> None:
    """With PyTorch's own start they are 65 to 99 % position and a hundredth as loud as the sound."""
    model = SPEECH[name]
    assert isinstance(model, SpeechTokenizerConfig)
    torch.manual_seed(0)
    tokenizer = SpeechTokenizer(model)
    waveforms = sounds(model)
    gains: list[float] = []
    for module in tokenizer.encoder.modules():
        if isinstance(module, Conv):
            module.conv.register_forward_hook(
                lambda _, given, out: gains.append(
                    float(out.square().mean() / given[0].square().mean())
                )
            )
    with torch.no_grad():
        latents = tokenizer.latents(waveforms)
    assert 0.2 < float(latents.std() / waveforms.std()) < 10
    assert position_share(latents.mT) < 0.1
    assert len(gains) == 2 + 4 * len(model.ratios)
    assert all(1 / 4 < gain < 4 for gain in gains), gains


SMALL = [name for name in SPEECH if name not in ("default", "librispeech")]


@pytest.mark.parametrize("name", SMALL)
def test_what_the_speech_decoder_says_follows_the_latents(name: str) -> None:
    """Vocos' own start is kept: its norms pass latents of any scale on, and its biases are zero or small."""
    model = SPEECH[name]
    assert isinstance(model, SpeechTokenizerConfig)
    torch.manual_seed(0)
    decoder = SpeechTokenizer(model).eval().decoder
    for scale in (1.0, 0.1):
        latents = scale * torch.randn(12, model.quantizer.code_dim, 40)
        with torch.no_grad():
            spoken = decoder(latents, None).reshape(12, 40, -1)
        assert position_share(spoken) < 0.1 and 0.005 < float(spoken.std()) < 0.2


@pytest.mark.parametrize("name", SMALL)
def test_the_first_step_of_speech_reaches_encoder_and_decoder(name: str) -> None:
    model = SPEECH[name]
    assert isinstance(model, SpeechTokenizerConfig)
    torch.manual_seed(0)
    tokenizer = SpeechTokenizer(model)
    waveforms = sounds(model, 4)
    with torch.no_grad():
        tokenizer.quantizer.init_from(tokenizer.latents(waveforms).mT.flatten(0, 1))
    decoded, quantized = tokenizer(waveforms)
    (MelDistance(model.sample_rate)(decoded, waveforms) + quantized.loss).backward()
    encoder, decoder = gradient(tokenizer.encoder), gradient(tokenizer.decoder)
    assert 0.05 < encoder / decoder < 20 and 0.1 < encoder + decoder < 1000


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW.get(n, ())) for n in IMAGES])
def test_image_latents_follow_the_picture(name: str) -> None:
    model = IMAGES[name]
    assert isinstance(model, ImageTokenizerConfig)
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(model)
    count = 12 if model.image_size <= 64 else 4
    coarse = torch.rand(count, model.in_channels, 4, 4, generator=torch.Generator().manual_seed(0))
    images = 2 * torch.nn.functional.interpolate(coarse, model.image_size, mode="bilinear") - 1
    reconstruction, quantized = tokenizer(images)
    latents = quantized.inputs.reshape(count, -1, quantized.inputs.shape[1])
    assert 0.05 < float(latents.std()) < 2
    assert position_share(latents) < 0.5
    ((reconstruction - images).abs().mean() + quantized.loss).backward()
    encoder, decoder = gradient(tokenizer.encoder), gradient(tokenizer.decoder)
    assert 0.05 < encoder / decoder < 20 and 0.01 < encoder + decoder < 100


def gradient(module: nn.Module) -> float:
    """The norm of all its parameters' gradients."""
    squares = [p.grad.square().sum() for p in module.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())
