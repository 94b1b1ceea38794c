"""What compare reads of one finished row: the files that the verbs wrote."""

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any, Literal

from common.config import load_config
from common.files import read_json
from common.tracking import read_metrics
from pipelines.compare.config import CompareRow
from pipelines.evaluation.table import Metric, Metrics, Unavailable, read_scores
from stage1_tokenizer.findings import result_line
from stage1_tokenizer.images.tokenizer import ImageTokenizerConfig
from stage1_tokenizer.quantizers import Quantizer, build_quantizer
from stage1_tokenizer.speech.tokenizer import SpeechTokenizerConfig

HELD_OUT = "F*D* vs held-out"
"""How a Frechet distance to held-out items is called in score.json: FID, or FD(extractor)."""
Better = Literal["high", "low", "neither"]


@dataclass(frozen=True)
class Column:
    """A column of the table, and where its value comes from."""

    name: str
    better: Better
    row: str
    """Of score.json; empty for a metric of another file."""
    metric: str
    """Its name there, as a pattern."""


CODES = (
    Column("used", "high", "reconstruction", "codes used"),
    Column("perplexity", "high", "reconstruction", "code perplexity"),
    Column("rFD", "low", "reconstruction", HELD_OUT),
)
GENERATION = (
    Column("gFD", "low", "samples", "F*D* vs train"),
    Column("share of the way", "high", "samples", "share of the way*"),
)
"""A prior whose share is below 0 has learned less than a table of bigrams."""
IMAGES = (
    *CODES,
    Column("PSNR (dB)", "high", "reconstruction", "PSNR (dB)"),
    Column("SSIM", "high", "reconstruction", "SSIM*"),
    *GENERATION,
    Column("label accuracy", "high", "samples", "label accuracy"),
)
SPEECH = (
    *CODES,
    Column("mel distance", "low", "reconstruction", "mel distance*"),
    Column("STOI", "high", "reconstruction", "STOI"),
    Column("PESQ", "high", "reconstruction", "PESQ (narrow-band*"),
    *GENERATION,
    Column("label accuracy", "high", "samples", "label accuracy (classifier)"),
)
STEP = Column("step (ms)", "low", "", "speed/step_ms")
"""The median over the tokenizer's log, so that outliers count little."""
RUN = (
    Column("effective rank", "neither", "", "codebook/effective_rank"),
    Column("quantization error", "neither", "", "heldout/quantization_error"),
    STEP,
    Column("peak memory (GiB)", "low", "", "speed/peak_memory_gib"),
)
"""From the tokenizer's log; all but STEP are those of its `result_line`."""


@dataclass(frozen=True)
class Measured:
    """One row with one seed."""

    row: CompareRow
    seed: int
    metrics: dict[str, float | None]
    """By the columns' names, in the table's order; None where there is none."""
    equal_bits: bool
    """Whether a position's codes carry the bits that the row's codebook_size promises."""
    code_dim: int
    """d, the encoder's output channels."""
    levels: int
    """Codes of one position."""
    extractor: str
    """Whose features the distances compare."""
    extractor_sha256: str = ""
    """Of its weights: distances by others say nothing beside these."""


def measured(row: CompareRow, seed: int, folder: Path) -> Measured:
    """The metrics of a finished row."""
    scores = {part.name: part.metrics for part in read_scores(folder / "score")}
    quantizer, bits = rate(row.tokenizer or folder / "tokenizer" / "model")
    speech = "bits per second" in bits
    metrics = dict(bits)
    for column in SPEECH if speech else IMAGES:
        score = first_score(scores.get(column.row, {}), column.metric)
        metrics[column.name] = None if score is None else score.value
    key = "heldout/bits_per_second" if speech else "heldout/bits_per_item"
    priors = [line[key] for line in read_metrics(folder / "prior") if key in line]
    metrics[f"prior's {next(iter(bits))}"] = min(priors, default=None)
    history: list[dict[str, Any]] = read_metrics(folder / "tokenizer")
    result = result_line(history) if history else {}
    metrics |= {column.name: result.get(column.metric) for column in RUN}
    steps = [line[STEP.metric] for line in history if STEP.metric in line]
    metrics[STEP.name] = median(steps) if steps else None
    if not quantizer.spec.has_codes:
        metrics |= dict.fromkeys([*bits, "effective rank"])
    equal = math.isclose(quantizer.spec.bits, math.log2(row.codebook_size))
    distance = first_score(scores["reconstruction"], HELD_OUT)
    extractor, weights = "", ""
    if isinstance(distance, Metric):
        extractor, weights = distance.extractor or "", distance.extractor_sha256 or ""
    about = quantizer.config.code_dim, quantizer.spec.levels
    return Measured(row, seed, metrics, equal, *about, extractor, weights)


def rate(model: Path) -> tuple[Quantizer, dict[str, float | None]]:
    """A quantizer like a tokenizer's, and the bits that its codes carry when all are equally likely."""
    values = read_json(model / "config.json")
    if "sample_rate" in values:
        speech = load_config(SpeechTokenizerConfig, model / "config.json")
        quantizer = build_quantizer(speech.quantizer)
        return quantizer, {"bits per second": quantizer.spec.bits * speech.codes_per_second}
    images = load_config(ImageTokenizerConfig, model / "config.json")
    quantizer = build_quantizer(images.quantizer)
    return quantizer, {"bits per item": quantizer.spec.bits * math.prod(images.grid)}


def first_score(metrics: Metrics, pattern: str) -> Metric | Unavailable | None:
    """The first metric whose name fits the pattern."""
    return next((metric for name, metric in metrics.items() if fnmatchcase(name, pattern)), None)
