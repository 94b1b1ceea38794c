"""The page's tabs for images: draw, reconstruct, keep parts and draw the rest."""

import math
from collections.abc import Iterator
from typing import Any

import gradio
import torch
from PIL import Image
from torch import Tensor

from common.metrics import psnr
from pipelines.demo.figures import code_map, hidden, kept, one, several
from pipelines.demo.limits import (
    MOST_IMAGES,
    errors_shown,
    errors_shown_while_streaming,
    read_image,
)
from pipelines.demo.parts import NO_CHOICE, image_source, image_view, tabs
from pipelines.generation.images import ImageGenerationPipeline
from stage2_prior.sampling_options import SamplingOptions

FRAMES = 16
"""Images that are shown while codes are sampled."""


class ImageAnswers:
    """What the buttons do."""

    def __init__(self, pipeline: ImageGenerationPipeline) -> None:
        self.pipeline, self.tokenizer = pipeline, pipeline.tokenizer
        self.device = pipeline.prior.condition_embedding.weight.device
        self.grid = self.tokenizer.config.grid
        self.any_order = pipeline.prior.config.order == "random"

    @property
    def choices(self) -> list[str]:
        """The labels to choose from, none first."""
        return [NO_CHOICE, *self.pipeline.classes]

    def labels(self, name: str, count: int) -> list[int] | None:
        """The label of each image."""
        if name == NO_CHOICE:
            return None
        return [self.pipeline.classes.index(name)] * count

    def decoded(self, codes: Tensor) -> Tensor:
        """Images of codes, grey where there is none yet."""
        there = codes >= 0 if codes.ndim == 3 else (codes >= 0).all(-1)
        images = self.tokenizer.decode(codes.clamp_min(0).to(self.device))
        return hidden(images.clamp(-1, 1), there)

    def samples(
        self, label: str, count: int, seed: int, guidance: float, temperature: float, **kept: Any
    ) -> Iterator[Image.Image]:
        """The samples, again and again while their codes are sampled."""
        count = min(max(int(count), 1), MOST_IMAGES)
        options = SamplingOptions(
            guidance=float(guidance), temperature=max(float(temperature), 0.0)
        )
        seeds = [int(seed) + i for i in range(count)]
        steps = self.pipeline.stream(
            self.labels(label, count), seeds=seeds, options=options, **kept
        )
        every = max(math.prod(self.pipeline.tokenizer.codes_shape) // FRAMES, 1)
        for i, codes in enumerate(steps):
            if i % every == 0:
                yield several(self.decoded(codes))
        yield several(self.decoded(codes))

    def upload(self, path: str | None) -> Tensor:
        """An uploaded image as the tokenizer takes it."""
        config = self.tokenizer.config
        return read_image(path, config.in_channels, config.image_size).to(self.device)

    def reconstructed(self, path: str | None) -> tuple[Image.Image, Image.Image, Image.Image, str]:
        """The image as the tokenizer sees it, its reconstruction, the map of its codes, and how near they are."""
        image = self.upload(path)
        codes = self.tokenizer.encode(image)
        again = self.tokenizer.decode(codes).clamp(-1, 1)
        spec = self.tokenizer.quantizer.spec
        bits = codes[0].numel() / spec.levels * spec.bits
        text = (
            f"**PSNR {float(psnr(image, again, 2)):.2f} dB** from {codes[0].numel()} codes, {bits:,.0f} bits: "
            f"{8 * image.numel() / bits:.0f} times fewer than its {image.shape[-1]} x {image.shape[-2]} pixels"
        )
        return one(image[0]), one(again[0]), code_map(codes[0].cpu()), text

    def first_rows(self, count: int) -> Tensor:
        """The mask that keeps so many rows."""
        height, width = self.grid
        return (torch.arange(height) < count)[:, None].expand(height, width)

    def upper_half(self) -> Tensor:
        """The mask that a new image begins with."""
        return self.first_rows(self.grid[0] // 2)

    def begun(self, path: str | None) -> tuple[Tensor, Tensor, Image.Image]:
        """The codes of an upload, what is kept of it, and the image of that."""
        return self.shown(self.tokenizer.encode(self.upload(path)).cpu(), self.upper_half())

    def sampled(self, label: str, seed: int) -> tuple[Tensor, Tensor, Image.Image]:
        """The same for a new sample."""
        codes = self.pipeline(self.labels(label, 1), seeds=[int(seed)]).codes
        return self.shown(codes, self.upper_half())

    def shown(self, codes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Image.Image]:
        """Codes, mask and their image."""
        return codes, mask, kept(self.decoded(codes)[0].cpu(), mask)

    def rows(self, codes: Tensor | None, count: int) -> tuple[Any, Any, Any]:
        """Keeps the first rows."""
        return self.shown(required(codes), self.first_rows(count))

    def clicked(
        self, codes: Tensor | None, mask: Tensor | None, place: gradio.SelectData
    ) -> tuple[Any, Any, Any]:
        """Keeps or frees the position under a click; a prior from left to right keeps all before it."""
        codes, mask = required(codes), required(mask)
        step = kept(self.decoded(codes)[0].cpu(), mask).width // self.grid[1]
        x, y = (
            min(int(pixel) // step, side - 1)
            for pixel, side in zip(place.index, self.grid[::-1], strict=True)
        )
        if self.any_order:
            mask = mask.clone()
            mask[y, x] = ~mask[y, x]
        else:
            mask = torch.arange(mask.numel()).view(mask.shape) < y * self.grid[1] + x
        return self.shown(codes, mask)

    def completed(
        self,
        codes: Tensor | None,
        mask: Tensor | None,
        label: str,
        count: int,
        seed: int,
        guidance: float,
        temperature: float,
    ) -> Iterator[Image.Image]:
        """Images that keep what is kept, as the rest is sampled."""
        codes, mask = required(codes), required(mask)
        count = min(max(int(count), 1), MOST_IMAGES)
        known = codes.expand(count, *codes.shape[1:])
        return self.samples(label, count, seed, guidance, temperature, known=known, mask=mask)


def required(given: Tensor | None) -> Tensor:
    """The codes or the mask of an image. Raises ValueError where there is none."""
    if given is None:
        raise ValueError("there is no image yet: upload one, or draw one")
    return given


def image_tabs(pipeline: ImageGenerationPipeline) -> None:
    """The tabs, inside the page that is being built."""
    tabs(ImageAnswers(pipeline), draw_tab, reconstruct_tab, keep_tab)


def controls(answers: ImageAnswers, count: int) -> list[Any]:
    """Label, number, seed, guidance and temperature."""
    label = gradio.Dropdown(
        answers.choices, value=answers.choices[-1], label="Label", visible=len(answers.choices) > 1
    )
    number = gradio.Slider(1, MOST_IMAGES, value=count, step=1, label="Images")
    seed = gradio.Number(0, precision=0, minimum=0, label="Seed")
    guidance = gradio.Slider(
        1, 8, value=3 if len(answers.choices) > 1 else 1, step=0.5, label="Guidance"
    )
    temperature = gradio.Slider(0, 2, value=1, step=0.05, label="Temperature")
    return [label, number, seed, guidance, temperature]


def draw_tab(answers: ImageAnswers) -> None:
    with gradio.Row():
        with gradio.Column(scale=1):
            given = controls(answers, 9)
            button = gradio.Button("Draw", variant="primary", elem_id="draw")
        with gradio.Column(scale=2):
            samples = image_view("Samples", "samples", download=True)
    button.click(errors_shown_while_streaming(answers.samples), given, samples)


def reconstruct_tab(answers: ImageAnswers) -> None:
    source = image_source("Your image", "upload")
    text = gradio.Markdown(elem_id="psnr")
    with gradio.Row():
        with gradio.Column(min_width=200):
            original = image_view("What the tokenizer sees")
        with gradio.Column(min_width=200):
            again = image_view("From its codes", "reconstruction")
        with gradio.Column(min_width=200):
            codes = image_view("Its codes: the same colour, the same code")
    source.upload(errors_shown(answers.reconstructed), source, [original, again, codes, text])


def keep_tab(answers: ImageAnswers) -> None:
    how = (
        "click a square to keep or free it"
        if answers.any_order
        else "click where drawing is to begin"
    )
    height = answers.grid[0]
    codes, mask = gradio.State(), gradio.State()
    with gradio.Row():
        with gradio.Column(min_width=280):
            source = image_source("Your image")
            own = gradio.Button("Take a sample instead", elem_id="own")
            view = image_view(f"What is kept: {how}", "kept")
            rows = gradio.Slider(0, height - 1, value=height // 2, step=1, label="Rows kept")
        with gradio.Column(min_width=280):
            given = controls(answers, 4)
            button = gradio.Button("Draw the rest", variant="primary", elem_id="complete")
        with gradio.Column(min_width=280):
            completed = image_view("The rest drawn anew", "completed", download=True)
    shown = [codes, mask, view]
    source.upload(errors_shown(answers.begun), source, shown)
    own.click(errors_shown(answers.sampled), [given[0], given[2]], shown)
    rows.release(errors_shown(answers.rows), [codes, rows], shown)
    view.select(errors_shown(answers.clicked), [codes, mask], shown)
    button.click(errors_shown_while_streaming(answers.completed), [codes, mask, *given], completed)
