"""export: a pipeline as ONNX graphs: encoder, decoder, a step of the prior, and the depth part of a DepthPrior."""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.extras import named_extras
from common.files import replaced_folder, write_text
from pipelines.export_graphs import (
    DepthStep,
    ImageDecoding,
    ImageEncoding,
    PriorStep,
    SpeechDecoding,
    SpeechEncoding,
    first_entries,
)
from pipelines.generation.load import Pipeline, find_pipeline, load_pipeline
from pipelines.generation.speech import SpeechGenerationPipeline
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.quantizers import SimVQ
from stage2_prior import Prior
from stage2_prior.depth import DepthPrior

FREE = torch.export.Dim.DYNAMIC
"""A dimension of any size."""
OPSET = 20
SHORTEST = 7
"""Codes of the shortest clip that the graph of a speech encoder takes: those that its last convolution sees."""


def export(place: Path, out: Path) -> str:
    """Writes encoder.onnx, decoder.onnx, prior.onnx, pipeline.json and, for a DepthPrior, depth.onnx: all or nothing.

    Raises ValueError for a folder that is no pipeline and for a part that ONNX can't express, and MissingExtraError where
    the extra `export` is missing.
    """
    folder = find_pipeline(place)
    with named_extras():
        import onnxscript  # noqa: F401
    pipeline = load_pipeline(folder)
    with replaced_folder(out) as partial:
        write_tokenizer(with_fixed_codebooks(pipeline.tokenizer), partial)
        write_prior(pipeline.prior, partial)
        about = description(pipeline)
        write_text(partial / "pipeline.json", json.dumps(about, indent=2) + "\n")
        graphs = sorted(path.name for path in partial.glob("*.onnx"))
    return f"{out}: {', '.join(graphs)}, pipeline.json"


def with_fixed_codebooks(tokenizer: Any) -> Any:
    """A copy with constant SimVQ codebooks, so that no graph computes them from a basis."""
    tokenizer = copy.deepcopy(tokenizer)
    for module in tokenizer.modules():
        if isinstance(module, SimVQ):
            codebook = module.codebook.detach().clone()
            del module.basis
            module.register_buffer("basis", codebook)
            module.projection = nn.Identity()
    return tokenizer


def write_tokenizer(tokenizer: ImageTokenizer | SpeechTokenizer, folder: Path) -> None:
    """Writes encoder.onnx and decoder.onnx."""
    encoding: nn.Module
    decoding: nn.Module
    if isinstance(tokenizer, SpeechTokenizer):
        kind, free = "waveform", {0: FREE, 1: FREE}
        encoding, decoding = SpeechEncoding(tokenizer), SpeechDecoding(tokenizer)
        items = torch.zeros(2, 2 * SHORTEST * tokenizer.config.hop)
        levels = tokenizer.quantizer.spec.levels
        shape: tuple[int, ...] = (2 * SHORTEST, levels) if levels > 1 else (2 * SHORTEST,)
    else:
        kind, free = "images", {0: FREE}
        encoding, decoding = ImageEncoding(tokenizer), ImageDecoding(tokenizer)
        side = tokenizer.config.image_size
        items = torch.zeros(2, tokenizer.config.in_channels, side, side)
        shape = tokenizer.codes_shape
    codes = torch.zeros(2, *shape, dtype=torch.int64)
    write(encoding, [items], folder / "encoder.onnx", [kind], ["codes"], [free])
    write(decoding, [codes], folder / "decoder.onnx", ["codes"], [kind], [free])


def write_prior(prior: Prior, folder: Path) -> None:
    """Writes prior.onnx and, by depth, depth.onnx."""
    step, together = PriorStep(prior), prior.config.codes_per_input
    entries = torch.zeros(2, 2, together, dtype=torch.int64)
    results = ["state" if step.by_depth else "logits", "present"]
    names, free = ["entries", "past"], [{0: FREE, 1: FREE}, {2: FREE, 4: FREE}]
    write(
        step, [entries, step.empty_past(2, places=2)], folder / "prior.onnx", names, results, free
    )
    if isinstance(prior, DepthPrior):
        state = torch.zeros(2, prior.condition_embedding.embedding_dim)
        others = torch.zeros(2, together - 1, dtype=torch.int64)
        names, free = ["state", "entries"], [{0: FREE}, {0: FREE}]
        write(DepthStep(prior), [state, others], folder / "depth.onnx", names, ["logits"], free)


def write(
    graph: nn.Module,
    inputs: Sequence[Tensor],
    path: Path,
    names: list[str],
    results: list[str],
    free: Sequence[dict[int, Any]],
) -> None:
    """Writes a graph of these inputs, some of whose dimensions are free. Raises ValueError where ONNX can't express it."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            traced = torch.export.export(
                graph.eval(), tuple(inputs), dynamic_shapes=tuple(free), strict=False
            )
            program: Any = torch.onnx.export(
                traced,
                dynamo=True,
                input_names=names,
                output_names=results,
                opset_version=OPSET,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ValueError(f"{path.name} can't be expressed in ONNX: {reason}") from None
    for result in (each for node in program.model.graph for each in node.outputs):
        result.shape = None  # of free dimensions it may say what the example had
    program.save(path)


def description(pipeline: Pipeline) -> dict[str, Any]:
    """What a program needs to know that has the graphs alone."""
    prior = pipeline.prior.config
    step = PriorStep(pipeline.prior)
    about: dict[str, Any] = {
        "classes": list(pipeline.classes),
        "codes": prior.longest,
        "min_codes": prior.min_codes,
        "ends": prior.ends,
        "level_sizes": list(prior.level_sizes),
        "codebook_size": prior.codebook_size,
        "no_condition": list(prior.no_condition),
        "parts": prior.parts,
        "characters": prior.characters,
        "first_entries": first_entries(pipeline.prior),
        "no_code": len(step.table) - 1,
        "codes_per_input": prior.codes_per_input,
        "past": list(step.empty_past(1, places=0).shape),
    }
    if isinstance(pipeline, SpeechGenerationPipeline):
        config = pipeline.tokenizer.config
        speakers = list(pipeline.speakers)
        return about | {
            "speakers": speakers,
            "sample_rate": config.sample_rate,
            "hop": config.hop,
            "shortest": SHORTEST,
            "decoder_window": config.decoder_window,
        }
    return about | {"grid": list(pipeline.tokenizer.config.grid)}
