"""Serves the page of a pipeline on this machine until it is stopped."""

import contextlib
import importlib.util
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.hub import local_folder
from common.processes import processes
from pipelines.generation.load import Pipeline, find_pipeline, load_pipeline


@dataclass(frozen=True)
class DemoOptions:
    """What stands after the pipeline on the command line."""

    compare: tuple[str, ...] = ()
    """Folders `model/` of tokenizers that the pipeline's is compared with."""
    results: Path | None = None
    """The folder that ratings of blind listening are written to."""
    port: int | None = None
    """Of the page; the first free one from 7860 on unless given."""


def demo_options(words: Sequence[str]) -> DemoOptions:
    """The options. Raises ValueError for a word that is none."""
    compare: list[str] = []
    results, port = None, None
    for word in words:
        match word.split("=", 1):
            case ["compare", str(folder)] if folder:
                compare.append(folder)
            case ["results", str(folder)] if folder:
                results = Path(folder)
            case ["port", str(digits)] if digits.isdecimal() and 0 < int(digits) < 2**16:
                port = int(digits)
            case _:
                raise ValueError(
                    f"{word!r} is no option: give compare=TOKENIZER, as often as you like, results=FOLDER or port=7860"
                )
    return DemoOptions(tuple(compare), results, port)


def serve(place: str, words: Sequence[str], say: Callable[[str], None]) -> None:
    """Serves the page and says its address; returns when it is interrupted. All that the page writes lies in a temporary
    folder, but for ratings.

    Raises ValueError without gradio, for an unknown option and for a folder that is no pipeline.
    """
    options = demo_options(words)
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs gradio: pip install 'simvq-pipeline[demo]'")
    pipeline = opened(place)
    others = {name: type(pipeline.tokenizer).from_pretrained(name) for name in options.compare}
    for tokenizer in others.values():
        tokenizer.to(processes().device).eval()
    with tempfile.TemporaryDirectory(prefix="simvq-demo-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        from pipelines.demo.page import launch, new_page  # gradio reads both when it is imported

        page = new_page(place, pipeline, others, options.results)
        say(f"{launch(page, options.port)} (Ctrl-C stops it)")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        page.close(verbose=False)


def opened(place: str) -> Pipeline:
    """The pipeline of a folder or of the Hub, on this process's device."""
    return load_pipeline(find_pipeline(local_folder(place))).to(processes().device)
