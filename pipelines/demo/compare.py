"""The page's tab that puts several tokenizers side by side on one input."""

from collections.abc import Mapping
from typing import Any

import gradio
import torch
from PIL import Image

from common.metrics import psnr
from pipelines.demo.figures import one
from pipelines.demo.limits import errors_shown, read_clip, read_image
from pipelines.demo.parts import clip_source, image_source, image_view, player
from pipelines.demo.sounds import resampled, spectrograms
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.speech.figures import wav_bytes

LabelledImages = list[tuple[Image.Image, str]]


def images_compared(path: str | None, tokenizers: Mapping[str, ImageTokenizer]) -> LabelledImages:
    """An image as the first tokenizer sees it, and each reconstruction with name, PSNR and bits."""
    shown: LabelledImages = []
    for name, tokenizer in tokenizers.items():
        config = tokenizer.config
        image = read_image(path, config.in_channels, config.image_size)
        codes = tokenizer.encode(image.to(tokenizer.codebook.device))
        again = tokenizer.decode(codes).clamp(-1, 1).cpu()
        spec = tokenizer.quantizer.spec
        bits = codes[0].numel() / spec.levels * spec.bits
        if not shown:
            shown.append((one(image[0]), "original"))
        shown.append(
            (one(again[0]), f"{name}: {float(psnr(image, again, 2)):.2f} dB, {bits:,.0f} bits")
        )
    return shown


def speech_rebuilt(
    path: str | None, tokenizers: Mapping[str, SpeechTokenizer], rate: int
) -> dict[str, torch.Tensor]:
    """A clip, `original`, and each tokenizer's reconstruction of it, at one sampling rate."""
    rebuilt: dict[str, torch.Tensor] = {}
    for name, tokenizer in tokenizers.items():
        own = tokenizer.config.sample_rate
        clip = read_clip(path, own, tokenizer.config.hop)
        if not rebuilt:
            rebuilt["original"] = read_clip(path, rate, 1)
        codes = tokenizer.encode(clip[None].to(tokenizer.codebook.device))
        again = tokenizer.decode(codes)[0].clamp(-1, 1).cpu()
        rebuilt[name] = resampled(again, own, rate)
    return rebuilt


def compare_tab(tokenizers: Mapping[str, Any]) -> None:
    """One input, and what becomes of it in each tokenizer."""
    first = next(iter(tokenizers.values()))
    if isinstance(first, ImageTokenizer):
        source = image_source("Your image", "compared")
        gallery = gradio.Gallery(
            label="From the codes of each tokenizer",
            columns=3,
            object_fit="contain",
            format="png",
            elem_id="gallery",
            interactive=False,
        )
        source.upload(errors_shown(lambda path: images_compared(path, tokenizers)), source, gallery)
        return
    rate = max(tokenizer.config.sample_rate for tokenizer in tokenizers.values())
    clip = clip_source("Your clip", "compared")
    with gradio.Row():
        players = [player(name) for name in ("original", *tokenizers)]
    spectrogram = image_view("Their spectrograms")

    def compared(path: str | None) -> list[Any]:
        rebuilt = speech_rebuilt(path, tokenizers, rate)
        columns = [{name: waveform} for name, waveform in rebuilt.items()]
        return [
            *(wav_bytes(waveform, rate) for waveform in rebuilt.values()),
            spectrograms(columns, rate),
        ]

    for event in (clip.upload, clip.stop_recording):
        event(errors_shown(compared), clip, [*players, spectrogram])
