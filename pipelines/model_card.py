"""The model card of a pipeline: metadata as the Hub reads them, examples, six lines of Python, scores."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from tabulate import tabulate

from common.files import read_json
from common.images import from_uint8, save_grid
from pipelines.evaluation.table import Metric, ScoreRow, rows_of, table_lines

IMAGES_SHOWN, COLUMNS, CLIPS_SHOWN = 40, 10, 4
SHOWN_ROWS = "samples", "reconstruction"
"""Rows of score.json that say how good this pipeline is; the others are what it is compared with."""
IMAGE_CODE = """from pipelines import ImageGenerationPipeline

pipe = ImageGenerationPipeline.from_pretrained("{name}")
out = pipe({conditions}seeds=[0, 1, 2]{guidance})
for image, seed in zip(out.images, out.seeds):
    image.save(f"{{seed}}.png")"""
SPEECH_CODE = """import soundfile
from pipelines import SpeechGenerationPipeline

pipe = SpeechGenerationPipeline.from_pretrained("{name}")
out = pipe({conditions}seeds=[0, 1, 2]{guidance})
for waveform, seed in zip(out.waveforms, out.seeds):
    soundfile.write(f"{{seed}}.wav", waveform.numpy(), out.sample_rate)"""


def model_card(
    folder: Path, name: str, scored: dict[str, Any], examples: list[str], licence: str | None
) -> ModelCard:
    """The card of a pipeline's folder; `scored` is its score.json, and empty without one."""
    tokenizer, prior = (read_json(folder / part / "config.json") for part in ("tokenizer", "prior"))
    speech = "sample_rate" in tokenizer
    about = scored.get("provenance", {})
    data = about.get("config", {}).get("data", {})
    rows = [row for row in rows_of(scored) if row.name in SHOWN_ROWS]
    source = str(data.get("source", "unknown"))
    metadata = ModelCardData(
        model_name=name.split("/")[1],
        license=licence,
        library_name="simvq-pipeline",
        pipeline_tag=task(prior, speech),
        tags=["simvq", "vector-quantization", "speech" if speech else "image-generation"],
        datasets=source if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else None,
        eval_results=eval_results(rows, data, task(prior, speech)) or None,
    )
    address = f"https://huggingface.co/{name}/resolve/main"
    return ModelCard.from_template(
        metadata,
        template_path=str(Path(__file__).parent / "templates" / "model_card.md"),
        title=name.split("/")[1],
        summary=summary(tokenizer, prior, read_json(folder / "pipeline.json")),
        examples="\n".join(
            f'<audio controls src="{address}/{path}"></audio>'
            if path.endswith(".wav")
            else f"![samples]({path})"
            for path in examples
        ),
        code=code(name, prior, speech, (about.get("sampling") or {}).get("guidance")),
        items="clip" if speech else "image",
        parts=parts(folder, tokenizer, prior),
        scores=scores_table(rows),
        notes=[f"{row.name}: {row.meaning}" for row in rows],
        data=f"Trained on `{source}`"
        + (f", scored on its split `{scored_split(data)}`." if rows else "."),
        licence=f"Licence of the weights: {licence}."
        if licence
        else "No licence is stated: ask before you use the weights.",
    )


def task(prior: dict[str, Any], speech: bool) -> str:
    """The task as the Hub names it."""
    if not speech:
        return "unconditional-image-generation"
    return "text-to-speech" if prior["condition"] == "text" else "text-to-audio"


def summary(tokenizer: dict[str, Any], prior: dict[str, Any], about: dict[str, Any]) -> str:
    """What the pipeline makes, in a sentence."""
    size, quantizer = prior["codebook_size"], tokenizer["quantizer"].get("method", "simvq")
    of_classes = f" of {len(about['classes'])} classes" if about["classes"] else ""
    if "sample_rate" in tokenizer:
        what = f"Speech{of_classes} at {tokenizer['sample_rate']:,} Hz"
    else:
        side = tokenizer["image_size"]
        what = f"Images{of_classes}, {side} x {side} pixels"
    return f"{what}: a tokenizer with {size:,} codes (`{quantizer}`), and a transformer that writes them one after the other."


def parts(folder: Path, tokenizer: dict[str, Any], prior: dict[str, Any]) -> list[str]:
    """A line for each folder."""
    sizes = {
        part: parameters(folder / part / "model.safetensors") for part in ("tokenizer", "prior")
    }
    codes = prior["codebook_size"]
    return [
        f"`tokenizer/`: {sizes['tokenizer'] / 1e6:.1f} M values, {codes:,} codes of {tokenizer['quantizer']['code_dim']} dimensions",
        f"`prior/`: {sizes['prior'] / 1e6:.1f} M values, {prior['style']} {prior['size']}, condition: {prior['condition']}",
        "`pipeline.json`: the names of labels and speakers, and the SHA-256 of both weights",
    ]


def parameters(path: Path) -> int:
    """The number of values in a file of weights, by its header."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def code(name: str, prior: dict[str, Any], speech: bool, guidance: float | None) -> str:
    """Six lines that make three samples, with the guidance of the scored ones."""
    conditions = ""
    if "label" in prior["condition"] and prior["classes"]:
        conditions += f"labels={[i % prior['classes'] for i in range(3)]}, "
    if "speaker" in prior["condition"] and prior["speakers"]:
        conditions += f"speakers={[i % prior['speakers'] for i in range(3)]}, "
    scale = f", guidance={guidance:g}" if guidance not in (None, 1) else ""
    template = SPEECH_CODE if speech else IMAGE_CODE
    return template.format(name=name, conditions=conditions, guidance=scale)


def eval_results(rows: list[ScoreRow], data: dict[str, Any], kind: str) -> list[EvalResult]:
    """Every value of samples and reconstructions, as the Hub's model-index has it."""
    name = Path(str(data.get("source", "unknown"))).name
    return [
        EvalResult(
            task_type=kind,
            task_name=row.name,
            dataset_type=str(data.get("source", "unknown")),
            dataset_name=name,
            dataset_split=scored_split(data),
            metric_type=re.sub(r"\W+", "-", metric_name.lower()).strip("-"),
            metric_name=f"{metric_name}, {row.name}",
            metric_value=metric.value,
        )
        for row in rows
        for metric_name, metric in row.metrics.items()
        if isinstance(metric, Metric) and metric.value is not None
    ]


def scored_split(data: dict[str, Any]) -> str:
    """The split that was scored."""
    return str(data.get("test") or data.get("validation") or "validation")


def scores_table(rows: list[ScoreRow]) -> str:
    """The metrics as a table of Markdown; empty without any."""
    lines = [
        [name, *(text for _, text in cells)]
        for name, cells in table_lines(rows)
        if any(metric and metric.value is not None for metric, _ in cells)
    ]
    header = ["metric", *(row.name for row in rows)]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True) if lines else ""


def save_examples(samples: Path, folder: Path) -> list[str]:
    """Writes the first samples of a folder beside a pipeline: a grid of images, or clips; returns their paths."""
    if (samples / "samples.npz").is_file():
        with np.load(samples / "samples.npz", allow_pickle=False) as saved:
            pixels = torch.from_numpy(saved["arr_0"][:IMAGES_SHOWN]).permute(0, 3, 1, 2)
        lines = pixels[: len(pixels) // COLUMNS * COLUMNS or len(pixels)].split(COLUMNS)
        save_grid([from_uint8(line) for line in lines], folder / "samples.png")
        return ["samples.png"]
    clips = sorted(samples.glob("*.wav"))[:CLIPS_SHOWN]
    for clip in clips:
        (folder / "samples").mkdir(exist_ok=True)
        shutil.copy(clip, folder / "samples" / clip.name)
    return [f"samples/{clip.name}" for clip in clips]
