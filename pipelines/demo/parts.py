"""Parts of the page that several tabs have."""

from collections.abc import Callable
from typing import Any

import gradio

from pipelines.demo.limits import MOST_SECONDS

TABS = "Draw", "Reconstruct", "Keep and draw"
NO_CHOICE = "any"
"""Stands for no label, and for no speaker."""


def tabs(answers: Any, *contents: Callable[[Any], None]) -> None:
    """The tabs of a pipeline, inside the page that is being built."""
    for name, fill_in in zip(TABS, contents, strict=True):
        with gradio.Tab(name):
            fill_in(answers)


def image_view(label: str, elem_id: str | None = None, download: bool = False) -> gradio.Image:
    """An image that the page shows, its label above it, where it covers nothing."""
    gradio.Markdown(label)
    buttons: Any = ["download"] if download else []
    return gradio.Image(
        label=label,
        show_label=False,
        interactive=False,
        format="png",
        elem_id=elem_id,
        buttons=buttons,
    )


def image_source(label: str, elem_id: str | None = None) -> gradio.Image:
    """Where an image is uploaded; it stays a file, so that its size can be looked at first."""
    return gradio.Image(
        label=label,
        type="filepath",
        sources=["upload"],
        image_mode=None,
        height=180,
        elem_id=elem_id,
        buttons=[],
    )


def player(label: str, elem_id: str | None = None, blind: bool = False) -> gradio.Audio:
    """A player of a sound that the page shows; a blind one has no waveform to tell it by, and no file to keep."""
    buttons: Any = [] if blind else ["download"]
    return gradio.Audio(
        label=label,
        interactive=False,
        elem_id=elem_id,
        buttons=buttons,
        waveform_options=gradio.WaveformOptions(show_recording_waveform=not blind),
    )


def clip_source(label: str, elem_id: str | None = None) -> gradio.Audio:
    """Where a clip is uploaded or recorded."""
    return gradio.Audio(
        label=f"{label} (at most {MOST_SECONDS:g} seconds)",
        type="filepath",
        sources=["upload", "microphone"],
        elem_id=elem_id,
        buttons=[],
    )
