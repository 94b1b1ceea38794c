"""The page: tabs for a pipeline, and for a comparison where there are more tokenizers."""

from collections.abc import Mapping
from pathlib import Path

import gradio

from pipelines.demo.compare import compare_tab
from pipelines.demo.images import image_tabs
from pipelines.demo.limits import MOST_BYTES
from pipelines.demo.listening import listening_tab
from pipelines.demo.speech import speech_tabs
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.load import Pipeline
from pipelines.generation.speech import SpeechGenerationPipeline
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer

HOST = "127.0.0.1"
FONT = ["system-ui", "sans-serif"]


def new_page(
    name: str,
    pipeline: Pipeline,
    others: Mapping[str, ImageTokenizer | SpeechTokenizer],
    results: Path | None,
) -> gradio.Blocks:
    """The page of a pipeline; `others` are tokenizers that its own is compared with, `results` a folder for ratings."""
    with gradio.Blocks(title=f"SimVQ: {name}", analytics_enabled=False) as page:
        gradio.Markdown(f"# {name}\n{described(pipeline)}")
        if isinstance(pipeline, ImageGenerationPipeline):
            image_tabs(pipeline)
        else:
            speech_tabs(pipeline)
        tokenizers = {"this pipeline's": pipeline.tokenizer, **others}
        with gradio.Tab("Compare"):
            compare_tab(tokenizers)
        if isinstance(pipeline, SpeechGenerationPipeline):
            with gradio.Tab("Listen blind"):
                listening_tab(tokenizers, results)  # type: ignore[arg-type]
    for answer in page.fns.values():
        answer.concurrency_id = "answers"  # gradio's limit would be each answer's own
    return page


def described(pipeline: Pipeline) -> str:
    """What the pipeline is, in a line."""
    tokenizer, prior = pipeline.tokenizer, pipeline.prior
    millions = sum(p.numel() for p in prior.parameters()) / 1e6
    spec = tokenizer.quantizer.spec
    sizes = " x ".join(f"{size:,}" for size in spec.sizes)
    condition = " and ".join(prior.config.parts) or "nothing"
    return f"{sizes} codes; a prior of {millions:.1f} M parameters, conditioned on {condition}."


def launch(page: gradio.Blocks, port: int | None) -> str:
    """Starts to serve the page on this machine alone, one answer at a time; returns its address."""
    page.queue(max_size=16, default_concurrency_limit=1)
    _, address, _ = page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        quiet=True,
        show_error=True,
        prevent_thread_lock=True,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        footer_links=[],
        theme=gradio.themes.Default(font=FONT, font_mono=["monospace"]),
    )
    return address
