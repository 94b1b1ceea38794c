"""The figures that reports of both modalities have: use of the codes, and curves of the runs."""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from common.figures import Curves, histogram, plot_curves, png
from common.files import read_json
from common.tracking import read_metrics
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.report import Figure
from stage1_tokenizer.quantizers import CodeSpec
from stage1_tokenizer.tokenizer import check_code_source

BASELINES = ("baseline/bigram_nats", "baseline/unigram_nats", "baseline/chance_nats")
"""What a prior's held-out loss stands beside."""
CURVES: dict[str, dict[str, tuple[str, ...]]] = {
    "tokenizer": {
        "loss": ("loss/total", "loss/l1"),
        "PSNR (dB)": ("heldout/psnr",),
        "mel distance": ("heldout/mel",),
        "share of codes used": ("codebook/used",),
        "codes": ("codebook/perplexity",),
        "dimensions": ("codebook/effective_rank",),
    },
    "prior": {
        "nats per code": ("loss/train", "heldout/nats_per_code", *BASELINES),
        "norm of the gradient": ("optim/grad_norm",),
    },
    "classifier": {"loss": ("loss/train",)},
}
"""Of each run, what is plotted together, by the label of its axis."""


def read_histogram(codes: Path | None, tokenizer: Path, spec: CodeSpec) -> Int[Tensor, " k"] | None:
    """How often each code was chosen, by a codes folder's manifest.json; None for no folder.

    Raises ValueError for codes of another tokenizer.
    """
    if codes is None:
        return None
    path = codes / "manifest.json"
    if not path.is_file():
        raise ValueError(f"codes={codes} has no manifest.json: run `simvq encode`, or set codes")
    manifest = read_json(path)
    histogram, size = manifest["histogram"], sum(spec.sizes)
    if len(histogram) != size:
        raise ValueError(
            f"codes={codes} has {len(histogram)} codes, the tokenizer has {size}: set codes or tokenizer"
        )
    check_code_source(codes, manifest, tokenizer)
    return torch.tensor(histogram)


def codes_figures(
    reconstructor: Reconstructor, training: Int[Tensor, " k"] | None, items: str
) -> list[Figure]:
    """How often each code is chosen: in the training items if that is known, else in the held-out ones."""
    if not reconstructor.spec.has_codes:
        return []
    split = "held-out" if training is None else "training"
    counts = reconstructor.histogram if training is None else training
    return [Figure("Use of the codes", f"In the {split} {items}.", png(histogram(counts)))]


def curve_figures(name: str, run_dir: Path | None) -> list[Figure]:
    """The curves of a run's metrics.jsonl; none for no run."""
    lines = read_metrics(run_dir) if run_dir else []
    figures = []
    for axis, keys in CURVES[name].items():
        points = {key: [(line["step"], line[key]) for line in lines if key in line] for key in keys}
        curves: Curves = {
            key: ([step for step, _ in pairs], [value for _, value in pairs])
            for key, pairs in points.items()
            if pairs
        }
        if curves:
            caption = next(iter(curves)) if len(curves) == 1 else ""  # a legend names several
            title = f"{name.capitalize()}: {axis}"
            figures.append(Figure(title, caption, png(plot_curves(curves, axis)), "curve"))
    return figures
