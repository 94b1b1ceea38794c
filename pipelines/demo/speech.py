"""The page's tabs for speech: draw, reconstruct, keep parts and draw the rest."""

from typing import Any

import gradio
import torch
from PIL import Image
from torch import Tensor

from pipelines.demo.limits import MOST_SECONDS, errors_shown, read_clip
from pipelines.demo.parts import NO_CHOICE, clip_source, image_view, player, tabs
from pipelines.demo.sounds import spectrograms
from pipelines.generation.speech import SpeechGenerationPipeline
from stage1_tokenizer.speech.figures import wav_bytes


class SpeechAnswers:
    """What the buttons do."""

    def __init__(self, pipeline: SpeechGenerationPipeline) -> None:
        self.pipeline, self.tokenizer = pipeline, pipeline.tokenizer
        self.rate, self.hop = self.tokenizer.config.sample_rate, self.tokenizer.config.hop
        self.any_order = pipeline.prior.config.order == "random"
        self.parts = pipeline.prior.config.parts

    @property
    def most_codes(self) -> int:
        """Codes of the longest sample."""
        config = self.pipeline.prior.config
        positions = int(MOST_SECONDS * self.rate / self.hop)
        return min(config.longest, positions * config.levels)

    @property
    def longest(self) -> float:
        """Its seconds."""
        return round(self.most_codes // self.pipeline.prior.config.levels * self.hop / self.rate, 2)

    def condition(self, label: str, speaker: str, text: str) -> dict[str, Any]:
        """What a prior is asked for; what was not chosen is none."""
        given: dict[str, Any] = {}
        if label != NO_CHOICE:
            given["labels"] = [self.pipeline.classes.index(label)]
        if speaker != NO_CHOICE:
            given["speakers"] = [self.pipeline.speakers.index(speaker)]
        if text:
            given["texts"] = [text]
        return given

    def prompted(
        self, prompt: str | None, prompt_seconds: float, *condition: Any
    ) -> tuple[bytes, Image.Image]:
        """One new clip and its spectrogram; with a prompt what follows it."""
        options: dict[str, Any] = {"max_codes": self.most_codes}
        if prompt is not None:
            clip = read_clip(prompt, self.rate, self.hop)
            hops = max(int(prompt_seconds * self.rate / self.hop), 1)
            options["prompts"] = [clip[: hops * self.hop]]
        return self.sample(*condition, **options)

    def sample(
        self,
        label: str,
        speaker: str,
        text: str,
        seed: int,
        guidance: float,
        temperature: float,
        **options: Any,
    ) -> tuple[bytes, Image.Image]:
        """The clip of one call of the pipeline."""
        out = self.pipeline(
            **self.condition(label, speaker, text),
            seeds=[int(seed)],
            guidance=float(guidance),
            temperature=max(float(temperature), 0.0),
            **options,
        )
        waveform = out.waveforms[0]
        return wav_bytes(waveform, self.rate), spectrograms([{"sample": waveform}], self.rate)

    def rebuilt(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """A clip's reconstruction, and its codes."""
        codes = self.pipeline.encoded(waveform)
        return self.pipeline.decoded([codes])[0], codes

    def reconstructed(self, path: str | None) -> tuple[bytes, bytes, Image.Image, str]:
        """The clip at the tokenizer's rate, its reconstruction, both spectrograms, and how many bits were between."""
        waveform = read_clip(path, self.rate, self.hop)
        again, codes = self.rebuilt(waveform)
        bits = len(codes) * self.tokenizer.quantizer.spec.bits
        seconds = len(waveform) / self.rate
        text = (
            f"**{bits / seconds / 1000:.2f} kbit/s**: {codes.numel()} codes for {seconds:.2f} seconds at "
            f"{self.rate:,} Hz, {16 * self.rate / (bits / seconds):.0f} times fewer bits than 16-bit PCM"
        )
        both = spectrograms([{"original": waveform}, {"from its codes": again}], self.rate)
        return wav_bytes(waveform, self.rate), wav_bytes(again, self.rate), both, text

    def completed(
        self, path: str | None, start: float, end: float, *condition: Any
    ) -> tuple[bytes, Image.Image]:
        """The clip with what lies between two times sampled anew; by a prior from left to right, all after the first."""
        codes = self.pipeline.encoded(read_clip(path, self.rate, self.hop)).cpu()
        codes = codes[: self.most_codes // self.pipeline.prior.config.levels]
        seconds = torch.arange(len(codes)) * self.hop / self.rate
        mask = seconds < start
        if self.any_order:
            mask |= seconds >= end
        return self.sample(*condition, known=[codes], mask=[mask])


def speech_tabs(pipeline: SpeechGenerationPipeline) -> None:
    """The tabs, inside the page that is being built."""
    tabs(SpeechAnswers(pipeline), draw_tab, reconstruct_tab, keep_tab)


def controls(answers: SpeechAnswers) -> list[Any]:
    """Label, speaker, text, seed, guidance and temperature; what the prior does not know is not shown.

    A prior that learned labels and speakers together takes no label without a speaker.
    """
    pipeline, parts = answers.pipeline, answers.parts
    choices = {"label": [*pipeline.classes], "speaker": [*pipeline.speakers]}
    dropdowns: list[Any] = [
        gradio.Dropdown(
            [*([] if {part} < {*parts} else [NO_CHOICE]), *(names if part in parts else [])],
            value=names[0] if part in parts else NO_CHOICE,
            label=part.capitalize(),
            visible=part in parts,
        )
        for part, names in choices.items()
    ]
    text = gradio.Textbox("", label="Text", max_length=400, visible="text" in parts)
    seed = gradio.Number(0, precision=0, minimum=0, label="Seed")
    guidance = gradio.Slider(1, 8, value=2 if parts else 1, step=0.5, label="Guidance")
    temperature = gradio.Slider(0, 2, value=1, step=0.05, label="Temperature")
    return [*dropdowns, text, seed, guidance, temperature]


def outputs(name: str) -> list[Any]:
    """A player and a spectrogram."""
    return [player(name, name.lower()), image_view("Its spectrogram")]


def draw_tab(answers: SpeechAnswers) -> None:
    with gradio.Row():
        with gradio.Column():
            given = controls(answers)
            button = gradio.Button("Draw", variant="primary", elem_id="draw")
            with gradio.Accordion("Go on from a prompt", open=False):
                prompt, longest = clip_source("A prompt"), answers.longest
                seconds = gradio.Slider(
                    0,
                    longest,
                    value=round(longest / 3, 2),
                    step=0.01,
                    label="Seconds that are kept",
                )
        with gradio.Column():
            shown = outputs("Sample")
    button.click(errors_shown(answers.prompted), [prompt, seconds, *given], shown)


def reconstruct_tab(answers: SpeechAnswers) -> None:
    clip = clip_source("Your clip", "upload")
    with gradio.Row():
        original = player("At the tokenizer's rate")
        again = player("From its codes", "reconstruction")
    text = gradio.Markdown(elem_id="rate")
    spectrogram = image_view("Their spectrograms")
    shown = [original, again, spectrogram, text]
    for event in (clip.upload, clip.stop_recording):
        event(errors_shown(answers.reconstructed), clip, shown)


def keep_tab(answers: SpeechAnswers) -> None:
    if answers.any_order:
        gradio.Markdown("The part between two times is drawn anew, to fit both sides.")
    else:
        gradio.Markdown(
            "This prior draws from left to right: all that follows the chosen time is drawn anew. To draw a part "
            "in the middle, train a prior with `order: random`."
        )
    most = answers.longest
    with gradio.Row():
        with gradio.Column():
            clip = clip_source("Your clip", "whole")
            start = gradio.Slider(
                0, most, value=round(most / 4, 2), step=0.01, label="From (seconds)"
            )
            end = gradio.Slider(
                0,
                most,
                value=round(most / 2, 2),
                step=0.01,
                label="To (seconds)",
                visible=answers.any_order,
            )
            given = controls(answers)
            button = gradio.Button("Draw the rest", variant="primary", elem_id="complete")
        with gradio.Column():
            shown = outputs("Completed")
    button.click(errors_shown(answers.completed), [clip, start, end, *given], shown)
