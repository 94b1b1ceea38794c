"""doctor: what is wrong with a codebook, and why; of a run here, or of arrays of any project."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from common.codes import read_manifest
from common.files import read_json
from common.findings import Finding, lines
from common.tracking import read_metrics
from pipelines.experiment import saved_config
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.codebook_usage import (
    CodebookHealth,
    codebook_health,
    effective_rank,
    perplexity,
    position_share,
    used,
)
from stage1_tokenizer.findings import causes, result_line, tokenizer_summary, usual_share
from stage1_tokenizer.modality import MODALITIES, ModalityTraining
from stage1_tokenizer.quantizers import Quantizer
from stage1_tokenizer.quantizers.search import nearest
from stage2_prior.findings import prior_summary

VECTORS = 65_536
"""Latents of the training items that are examined, or four for each code where that is more."""
FLAT = 2.5
"""Root mean square of a latent beyond which FSQ's tanh is flat."""


def doctor(place: Path) -> str:
    """A report on everything in the folder that doctor knows: a run, a model, codes."""
    parts = [
        report(folder)
        for folder in (place, place / "tokenizer", place / "codes", place / "prior")
        for report in fitting_reports(folder)
    ]
    if (place / "model.safetensors").exists() and (place / "config.json").exists():
        parts.append(model_report(place))
    if not parts:
        raise ValueError(
            f"{place} is no run, model or folder of codes: give one, or --latents and --codebook"
        )
    return "\n\n".join(parts)


def fitting_reports(folder: Path) -> list[Callable[[Path], str]]:
    """The reports on runs and codes that fit what is in a folder."""
    reports: list[Callable[[Path], str]] = []
    if (folder / "config.yaml").exists() and (folder / "metrics.jsonl").exists():
        metrics = read_metrics(folder)
        if (folder / "model").is_dir() and any("codebook/size" in line for line in metrics):
            reports.append(tokenizer_report)
        if any("heldout/nats_per_code" in line for line in metrics):
            reports.append(prior_report)
    if (folder / "manifest.json").exists():
        reports.append(codes_report)
    return reports


def tokenizer_report(run: Path) -> str:
    """The run's own lines, then its codebook beside its latents."""
    config = saved_config("tokenizer", run / "config.yaml")
    line = result_line(read_metrics(run))
    summary = tokenizer_summary(line, config.model.quantizer.method)
    accelerator = Accelerator(cpu=True)  # before the data, which ask for this process's device
    try:
        modality = MODALITIES[config.modality].training(config, torch.device("cpu"))
    except ValueError as error:  # the data are not there any more
        return "\n".join(
            [f"{run}, without its data: {error}", *summary, model_report(run / "model")]
        )
    saved = type(modality.tokenizer).from_pretrained(run / "model")
    modality.tokenizer.load_state_dict(saved.state_dict())
    modality.tokenizer.eval()
    quantizer = modality.tokenizer.quantizer
    if not quantizer.spec.has_codes:
        return "\n".join([f"{run}: no quantizer", *summary])
    most = max(VECTORS, 4 * quantizer.spec.alphabet)
    latents = training_latents(accelerator, modality, config.batch_size, most)
    position = modality.evaluate()["latents/position_share"]
    health, findings = quantizer_health(quantizer, latents, position)
    levels = quantizer.spec.levels
    which = f", and the first of {levels} levels of codes" if levels > 1 else ""
    return "\n".join(
        [f"{run}: latents of training items{which}", *summary, *report_lines(health, findings)]
    )


@torch.no_grad()
def training_latents(
    accelerator: Accelerator, modality: ModalityTraining, batch_size: int, most: int
) -> Float[Tensor, "n d"]:
    """Latents of training items in the order of a run with seed 0, at least `most` or of one epoch."""
    batches = modality.batches(accelerator, batch_size=batch_size, seed=0, done=0, workers=0)
    latents: list[Tensor] = []
    for batch in batches:
        latents.append(modality.latents(batch))
        if sum(map(len, latents)) >= most or batch["epoch"] > 0:
            break
    return torch.cat(latents)


@torch.no_grad()
def quantizer_health(
    quantizer: Quantizer, latents: Float[Tensor, "n d"], position: float | None
) -> tuple[CodebookHealth, list[Finding]]:
    """The measures of a codebook and the findings; with several codes per position, those of the first level.

    Where latents do not choose the nearest code, distances mean little, and no finding rests on them.
    """
    codes = quantizer.encode(latents)
    codes = codes[:, 0] if codes.ndim > 1 else codes
    health = codebook_health(latents, quantizer.codebook, codes, position)
    some = latents[:1024]
    by_distance = (nearest(some, quantizer.codebook) == codes[:1024]).float().mean() > 0.99
    findings = causes(health, bool(by_distance), quantizer.config.method)
    if quantizer.config.method == "fsq" and (size := float(latents.square().mean().sqrt())) > FLAT:
        findings.insert(
            0,
            Finding(
                "the latents are where the tanh is flat",
                f"their root mean square is {size:.2g}",
                f"less than {FLAT}",
                "Lower tokenizer.optim.lr, or raise its warmup_steps: rounding hardly changes any more.",
                topic="codes",
            ),
        )
    return health, findings


def report_lines(health: CodebookHealth, findings: list[Finding]) -> list[str]:
    """Measures and causes, a line each."""
    dead = health.dead_distance
    measures = {
        "codes used": f"{health.used:.1%} of {health.size:,}, over {health.vectors:,} vectors",
        "perplexity": f"{health.perplexity:,.0f}",
        "effective rank of the codes": f"{health.rank:.1f} of {health.dim} (of the latents {health.latents_rank:.1f})",
        "spread of the codes": f"{health.scale:.3g} times the latents' ({health.latents_scale:.3g})",
        "distance of the means": f"{health.offset:.3g} times the latents' spread",
        "quantization error": f"{health.error:.3g} of the latents' variance",
        "unused codes": "none"
        if dead is None
        else f"{dead:.3g} times the latents' spread from the nearest latent",
        "duplicate codes": f"{health.duplicates:.1%}",
    }
    if health.position is not None:
        measures["latents by position alone"] = f"{health.position:.1%} of their variance"
    text = [f"  {name:<28} {value}" for name, value in measures.items()]
    return text + (lines(findings) or ["ok: none of the known causes of collapse fits"])


def codes_report(folder: Path) -> str:
    """Use of the codes over a whole data set."""
    manifest = read_manifest(folder)
    counts = torch.tensor(manifest["histogram"])
    share = used(counts)
    line = (
        f"{folder}: {share:.1%} of {len(counts):,} codes used over {manifest['positions']:,} positions, perplexity "
        f"{perplexity(counts):,.0f}; the most frequent code has "
        f"{counts.max() / manifest['positions']:.1%} of them"
    )
    if share >= usual_share(len(counts), int(counts.sum())):
        return line
    return f"{line}\nWARNING: few codes are used; `simvq doctor` of the tokenizer's run says why"


def prior_report(run: Path) -> str:
    """What a prior's training says of itself."""
    return "\n".join([f"{run}:", *prior_summary(read_metrics(run))])


def model_report(folder: Path) -> str:
    """The codebook of a tokenizer without its data."""
    speech = "sample_rate" in read_json(folder / "config.json")
    model = (SpeechTokenizer if speech else ImageTokenizer).from_pretrained(folder)
    if not model.quantizer.spec.has_codes:
        return f"{folder}: no quantizer"
    codebook = model.codebook
    return (
        f"{folder}: {len(codebook):,} codes of {codebook.shape[1]} dimensions, effective rank "
        f"{effective_rank(codebook):.1f}; for more, give its run's folder, or --latents and --codebook"
    )


def arrays_report(latents: Path, codebook: Path) -> str:
    """The same of arrays of any project: latents (n, d) or (b, n, d), a codebook (k, d)."""
    vectors, codes = (array(path) for path in (latents, codebook))
    unfit = vectors.ndim not in (2, 3) or codes.ndim != 2 or vectors.shape[-1] != codes.shape[1]
    if unfit or not vectors.numel() or not codes.numel():
        raise ValueError(
            f"--latents of shape {tuple(vectors.shape)} and --codebook of shape {tuple(codes.shape)}: give (n, d) "
            "or (b, n, d), and (k, d), neither of them empty"
        )
    if not (vectors.isfinite().all() and codes.isfinite().all()):
        raise ValueError("--latents or --codebook holds values that are not finite")
    position = position_share(vectors) if vectors.ndim == 3 else None
    flat = vectors if vectors.ndim == 2 else rearrange(vectors, "b n d -> (b n) d")
    health = codebook_health(flat, codes, position=position)
    return "\n".join([f"{latents}, {codebook}:", *report_lines(health, causes(health))])


def array(path: Path) -> Tensor:
    """The array of a .npy file; nothing is unpickled."""
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False)).float()
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
