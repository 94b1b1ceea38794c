"""The pictures of the report on images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from common.figures import from_uint8, save_curves, save_grid, save_histogram
from common.tracking import read_metrics
from pipelines.evaluation.fidelity import Features, nearest
from pipelines.evaluation.images.data import SampledImages, pick, picture_batches
from pipelines.evaluation.images.rows import SHOWN, Judge, Reconstructor
from pipelines.evaluation.report import Figure, figure
from stage1_tokenizer.images.data import ImageDataset
from stage1_tokenizer.quantizers import CodeSpec

CURVES: dict[str, dict[str, tuple[str, ...]]] = {
    "tokenizer": {
        "loss": ("loss/total", "loss/l1"),
        "PSNR (dB)": ("heldout/psnr",),
        "mel distance": ("heldout/mel",),
        "share of codes used": ("codebook/used",),
        "codes": ("codebook/perplexity",),
        "dimensions": ("codebook/effective_rank",),
    },
    "prior": {"nats per code": ("loss/train", "heldout/nats_per_code")},
}
"""Of each run, what is drawn together, by the label of its axis."""
MOST_CLASSES, PER_CLASS, NEIGHBOURS = 20, 10, 3


@dataclass(frozen=True)
class Drawn:
    """What a prior has made."""

    pictures: SampledImages
    features: Features
    sampling: dict[str, Any]
    """sample.json."""


@dataclass(frozen=True)
class Scored:
    """All that was scored."""

    judge: Judge
    train: ImageDataset
    heldout: ImageDataset
    reconstructor: Reconstructor
    drawn: Drawn | None


def figures(
    scored: Scored,
    histogram: Int[Tensor, " k"] | None,
    tokenizer_run: Path | None,
    prior_run: Path | None,
) -> list[Figure]:
    """Samples, reconstructions, neighbours, the use of the codes, and the curves of the runs given."""
    assert scored.reconstructor.shown is not None
    drawn = scored.drawn
    return [
        *([samples_figure(drawn)] if drawn else []),
        figure(
            "Reconstructions",
            "Held-out pictures above their reconstructions.",
            lambda path: grid(scored.reconstructor.shown or (), path),
        ),
        *([neighbours_figure(scored, drawn)] if drawn else []),
        *([codes_figure(scored, histogram)] if scored.reconstructor.spec.has_codes else []),
        *curve_figures("tokenizer", tokenizer_run),
        *curve_figures("prior", prior_run),
    ]


def grid(rows: Sequence[UInt8[Tensor, "b c y x"]], path: Path) -> None:
    """Writes rows of pictures."""
    save_grid([from_uint8(row) for row in rows], path)


def samples_figure(drawn: Drawn) -> Figure:
    """The first samples of each label, uncurated."""
    labels = drawn.sampling["labels"] or (0,) * len(drawn.features)
    shown = sorted(set(labels))[:MOST_CLASSES]
    places = [[i for i, own in enumerate(labels) if own == label] for label in shown]
    columns = min(PER_CLASS, *map(len, places), len(labels))
    places = [row[:columns] for row in places]
    flat = [place for row in places for place in row]
    images = pick(drawn.pictures.batches(256), flat)
    names = drawn.sampling["classes"] or ()
    named = [names[label] if label < len(names) else str(label) for label in shown]
    caption = f"The first {columns} samples of each label, uncurated."
    if drawn.sampling["labels"]:
        caption += f" From top to bottom: {', '.join(named)}."
    return figure("Samples", caption, lambda path: grid(images.split(columns), path))


def neighbours_figure(scored: Scored, drawn: Drawn) -> Figure:
    """The first samples above the training pictures nearest to them in feature space."""
    count, real = min(SHOWN, len(drawn.features)), scored.judge.train.features
    first = Features(**{name: value[:count] for name, value in vars(drawn.features).items()})
    wide = min(NEIGHBOURS, len(real))
    distances, places = nearest(first, real, wide)
    batches = picture_batches(scored.train, 256, wanted=set(places.flatten().tolist()))
    neighbours = pick(batches, places.T.flatten().tolist())
    rows = [pick(drawn.pictures.batches(256), list(range(count))), *neighbours.split(count)]
    listed = ", ".join(f"{distance:.3g}" for distance in distances[:, 0].tolist())
    return figure(
        "Nearest training pictures",
        f"The first samples above the {wide} training pictures nearest to each by the features of "
        f"{scored.judge.extractor.name}. Distances to the nearest: {listed}.",
        lambda path: grid(rows, path),
    )


def read_histogram(codes: Path | None, spec: CodeSpec) -> Int[Tensor, " k"] | None:
    """How often each code was chosen, by a codes folder's manifest.json; None for no folder."""
    if codes is None:
        return None
    path = codes / "manifest.json"
    if not path.is_file():
        raise ValueError(f"codes={codes} has no manifest.json: run `simvq encode`, or set codes")
    manifest = json.loads(path.read_text())
    known, size = len(manifest["histogram"]), sum(spec.sizes)
    if known != size:
        raise ValueError(
            f"codes={codes} has {known} codes, the tokenizer has {size}: set codes or tokenizer"
        )
    return torch.tensor(manifest["histogram"])


def codes_figure(scored: Scored, histogram: Int[Tensor, " k"] | None) -> Figure:
    """How often each code is chosen: in the codes folder if there is one, else in the held-out pictures."""
    where = "held-out" if histogram is None else "training"
    counts = scored.reconstructor.histogram if histogram is None else histogram
    return figure(
        "Use of the codes", f"In the {where} pictures.", lambda path: save_histogram(counts, path)
    )


def curve_figures(name: str, run_dir: Path | None) -> list[Figure]:
    """The curves of a run's metrics.jsonl."""
    rows = read_metrics(run_dir) if run_dir else []
    found = []
    for axis, keys in CURVES[name].items():
        points = {key: [(row["step"], row[key]) for row in rows if key in row] for key in keys}
        curves = {key: tuple(zip(*pairs, strict=True)) for key, pairs in points.items() if pairs}
        if curves:
            found.append(curve_figure(f"Training of the {name}: {axis}", curves, axis))
    return found


def curve_figure(title: str, curves: dict[str, Any], axis: str) -> Figure:
    """Named curves over the steps."""
    return figure(title, ", ".join(curves), lambda path: save_curves(curves, path, axis))
