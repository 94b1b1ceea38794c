"""The model card of a pipeline: metadata as the Hub reads them, examples, six lines of Python, scores."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from tabulate import tabulate

from common.images import save_grid
from pipelines.evaluation.table import Metric, ScoredSet, sets_of, table_lines
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.load import Pipeline
from pipelines.generation.speech import SpeechGenerationPipeline

IMAGES_SHOWN, COLUMNS, CLIPS_SHOWN = 40, 10, 4
SETS_SHOWN = "samples", "reconstruction"
"""Sets of score.json that say how good this pipeline is; the others are what it is compared with."""
IMAGE_CODE = """from simvq import ImageGenerationPipeline

pipe = ImageGenerationPipeline.from_pretrained("{name}")
out = pipe({conditions}seeds=[0, 1, 2]{guidance})
for image, seed in zip(out.images, out.seeds):
    image.save(f"{{seed}}.png")"""
SPEECH_CODE = """import soundfile
from simvq import SpeechGenerationPipeline

pipe = SpeechGenerationPipeline.from_pretrained("{name}")
out = pipe({conditions}seeds=[0, 1, 2]{guidance})
for waveform, seed in zip(out.waveforms, out.seeds):
    soundfile.write(f"{{seed}}.wav", waveform.numpy(), out.sample_rate)"""


def model_card(
    pipeline: Pipeline, name: str, scored: dict[str, Any], examples: list[str], licence: str | None
) -> ModelCard:
    """The card of a pipeline; `scored` is its score.json, and empty without one."""
    about = scored.get("provenance", {})
    data = about.get("config", {}).get("data", {})
    sets = [each for each in sets_of(scored) if each.name in SETS_SHOWN]
    source, kind = data_name(data), task(pipeline)
    speech = isinstance(pipeline, SpeechGenerationPipeline)
    metadata = ModelCardData(
        model_name=name.split("/")[1],
        license=licence,
        library_name="simvq-pipeline",
        pipeline_tag=kind,
        tags=["simvq", "vector-quantization", "speech" if speech else "image-generation"],
        datasets=source if "/" in source else None,
        eval_results=eval_results(sets, data, kind) or None,
    )
    return ModelCard.from_template(
        metadata,
        template_path=str(Path(__file__).parent / "templates" / "model_card.md"),
        title=name.split("/")[1],
        summary=summary(pipeline),
        examples="\n".join(shown(path, name) for path in examples),
        code=code(pipeline, name, about.get("sampling") or {}),
        package="simvq-pipeline[train,audio]" if speech else "simvq-pipeline[train]",
        items="clip" if speech else "image",
        parts=parts(pipeline),
        scores=scores_table(sets),
        notes=[f"{each.name}: {each.meaning}" for each in sets],
        source=source,
        split=scored_split(data) if sets else None,
        licence=licence,
    )


def task(pipeline: Pipeline) -> str:
    """The task as the Hub names it."""
    if isinstance(pipeline, ImageGenerationPipeline):
        return "unconditional-image-generation"
    return "text-to-speech" if "text" in pipeline.prior.config.parts else "text-to-audio"


def shown(path: str, name: str) -> str:
    """A figure, or a player, which needs the whole address."""
    if path.endswith(".wav"):
        return f'<audio controls src="https://huggingface.co/{name}/resolve/main/{path}"></audio>'
    return f"![samples]({path})"


def summary(pipeline: Pipeline) -> str:
    """What the pipeline makes, in a sentence."""
    config, spec = pipeline.tokenizer.config, pipeline.tokenizer.quantizer.spec
    classes = f" of {len(pipeline.classes)} classes" if pipeline.classes else ""
    if isinstance(pipeline, SpeechGenerationPipeline):
        what = f"Speech{classes} at {pipeline.tokenizer.config.sample_rate:,} Hz"
    else:
        side = pipeline.tokenizer.config.image_size
        what = f"Images{classes}, {side} x {side} pixels"
    codes = " x ".join(f"{size:,}" for size in spec.sizes)
    return (
        f"{what}: a tokenizer with {codes} codes (`{config.quantizer.method}`), and a transformer that writes them one "
        "after the other."
    )


def parts(pipeline: Pipeline) -> list[str]:
    """A line for each folder."""
    prior, quantizer = pipeline.prior.config, pipeline.tokenizer.config.quantizer
    values = [
        sum(tensor.numel() for tensor in model.state_dict().values()) / 1e6
        for model in (pipeline.tokenizer, pipeline.prior)
    ]
    condition = "+".join(prior.parts) or "none"
    return [
        f"`tokenizer/`: {values[0]:.1f} M values, codes of {quantizer.code_dim} dimensions",
        f"`prior/`: {values[1]:.1f} M values, {prior.style} of size {prior.size}, condition: {condition}",
        "`pipeline.json`: the names of labels and speakers, and the SHA-256 of both weights",
    ]


def code(pipeline: Pipeline, name: str, sampling: dict[str, Any]) -> str:
    """Python code that makes three samples, with the guidance and first texts of the scored ones."""
    sizes, guidance = pipeline.prior.config.parts, sampling.get("guidance")
    asked = {"labels": sizes.get("label"), "speakers": sizes.get("speaker")}
    conditions = "".join(
        f"{key}={[i % size for i in range(3)]}, " for key, size in asked.items() if size
    )
    if "text" in sizes:
        characters = pipeline.prior.config.characters
        texts = sampling.get("texts") or [characters[: pipeline.prior.config.text_length]]
        conditions = f"texts={[texts[i % len(texts)] for i in range(3)]}, "
    scale = f", guidance={guidance:g}" if guidance not in (None, 1) else ""
    speech = isinstance(pipeline, SpeechGenerationPipeline)
    template = SPEECH_CODE if speech else IMAGE_CODE
    return template.format(name=name, conditions=conditions, guidance=scale)


def eval_results(sets: list[ScoredSet], data: dict[str, Any], kind: str) -> list[EvalResult]:
    """Every value of samples and reconstructions, as the Hub's model-index has it."""
    name = data_name(data)
    return [
        EvalResult(
            task_type=kind,
            task_name=each.name,
            dataset_type=name,
            dataset_name=name.rpartition("/")[2],
            dataset_split=scored_split(data),
            metric_type=re.sub(r"\W+", "-", metric_name.lower()).strip("-"),
            metric_name=f"{metric_name}, {each.name}",
            metric_value=metric.value,
        )
        for each in sets
        for metric_name, metric in each.metrics.items()
        if isinstance(metric, Metric)
    ]


def data_name(data: dict[str, Any]) -> str:
    """The Hub's name of a data set, or of one that is embedded; where it lies on the writer's machine is not told."""
    source = str(data.get("source", "unknown"))
    there = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) and not Path(source).exists()
    return source if there and source != "parquet" else "local data"


def scored_split(data: dict[str, Any]) -> str:
    """The split that was scored; where it is a file, what it is for."""
    part = "test" if data.get("test") else "validation"
    split = str(data.get(part) or part)
    return part if data.get("source") == "parquet" or "/" in split else split


def scores_table(sets: list[ScoredSet]) -> str:
    """The metrics as a table of Markdown; empty without any."""
    lines = [
        [name, *(text for _, text in cells)]
        for name, cells in table_lines(sets)
        if any(isinstance(metric, Metric) for metric, _ in cells)
    ]
    header = ["metric", *(each.name for each in sets)]
    return tabulate(lines, header, tablefmt="github", disable_numparse=True) if lines else ""


def save_examples(samples: Path, folder: Path) -> list[str]:
    """Writes the first samples of a folder beside a pipeline: a grid of images, or clips; returns their paths."""
    if (samples / "samples.npz").is_file():
        with np.load(samples / "samples.npz", allow_pickle=False) as saved:
            pixels = torch.from_numpy(saved["arr_0"][:IMAGES_SHOWN]).permute(0, 3, 1, 2)
        lines = pixels[: len(pixels) // COLUMNS * COLUMNS or len(pixels)].split(COLUMNS)
        save_grid(lines, folder / "samples.png")
        return ["samples.png"]
    clips = sorted(samples.glob("*.wav"))[:CLIPS_SHOWN]
    for clip in clips:
        (folder / "samples").mkdir(exist_ok=True)
        shutil.copy(clip, folder / "samples" / clip.name)
    return [f"samples/{clip.name}" for clip in clips]
