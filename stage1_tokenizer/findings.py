"""What measures of a codebook, or a line of a training's metrics, say against it, and what to change."""

import math

from common.findings import (
    Finding,
    Topic,
    step_findings,
    steps_in_words,
    summary,
    verdict,
)
from stage1_tokenizer.codebook_usage import CodebookHealth

NAMES = {
    "heldout/psnr": "PSNR",
    "heldout/mel": "mel distance",
    "constant/psnr": "PSNR",
    "constant/mel": "mel distance",
}
"""How what is watched on held-out items is told."""
USED = 0.5
"""Share of the codes below which few are used, where there were positions enough to use them all."""
POSITION = 0.8
"""Share of the latents' variance by their position alone above which they hardly depend on the input."""
BETTER = 0.05
"""A reconstruction must be better than the best constant by this share of its error."""
PSNR_GAIN = 1.0
"""The same for a PSNR, in dB."""


def causes(health: CodebookHealth, by_distance: bool = True) -> list[Finding]:
    """Which of the known causes of collapse fit, the likeliest first; none for a healthy codebook.

    `by_distance` says that latents choose the nearest code; else the scales of both say nothing.
    """
    return [
        *_deaf_latents(health),
        *(_scales(health) if by_distance else []),
        *_geometry(health),
        *_few_used(health),
    ]


def _deaf_latents(health: CodebookHealth) -> list[Finding]:
    if health.latents_scale < 1e-6:
        return [
            Finding(
                "latents are constant",
                f"they vary by {health.latents_scale:.2g}",
                "latents that vary with the input",
                "Look at the encoder's start and learning rate (optim.lr), not at the codebook.",
                topic="codes",
            )
        ]
    if health.position is not None and health.position > POSITION:
        return [position_finding(health.position)]
    return []


def position_finding(share: float) -> Finding:
    """Latents that tell their position and little else."""
    return Finding(
        "latents hardly depend on the input",
        f"{share:.1%} of their variance is their position alone",
        f"less than {POSITION:.0%}",
        "The encoder has not learned to listen or look: train longer, or lower optim.lr.",
        topic="codes",
    )


def _scales(health: CodebookHealth) -> list[Finding]:
    found = []
    if not 0.25 <= health.scale <= 4:
        found.append(
            Finding(
                "codes and latents have other scales",
                f"the codes spread {health.scale:.2g} times as far as the latents",
                "0.25 to 4 times",
                "Start the codes from the latents (SimVQ: model.quantizer.rescale=true; VQ: start=data; in your "
                "own loop call init_from), or normalise the latents.",
                topic="codes",
            )
        )
    if health.offset > 2:
        found.append(
            Finding(
                "the latents have drifted away from the codes",
                f"their means are {health.offset:.2g} times the latents' spread apart",
                "less than 2",
                "Let the codes follow: a bias (SimVQ: bias=true), a larger quantizer_lr, or a smaller optim.lr.",
                topic="codes",
            )
        )
    return found


def _geometry(health: CodebookHealth) -> list[Finding]:
    found = []
    if health.duplicates > 0.05:
        found.append(
            Finding(
                "codes are alike",
                f"{health.duplicates:.1%} of them equal another",
                "none",
                "Start them apart: from data, or at random; codes that are equal get the same updates.",
                topic="codes",
            )
        )
    if (finding := rank_finding(health.rank, health.dim)) is not None:
        found.append(finding)
    return found


def rank_finding(rank: float, dim: int) -> Finding | None:
    """A codebook in far fewer dimensions than it has."""
    if dim < 4 or rank >= max(dim / 8, 1.5):
        return None
    return Finding(
        "the codebook has collapsed in dimension",
        f"effective rank {rank:.1f} of {dim}",
        f"{max(dim / 8, 1.5):.1f} or more",
        "Lower model.quantizer.weight, or set model.quantizer.code_dim to what is used; "
        "gram_penalty=1e-3 keeps dimensions apart.",
        topic="codes",
    )


def _few_used(health: CodebookHealth) -> list[Finding]:
    if health.vectors < 4 * health.size:
        return [
            Finding(
                "too few vectors to tell",
                f"{health.vectors:,} latents for {health.size:,} codes",
                "four times as many as codes, or more",
                "Look at more latents before you judge the share of codes used.",
                topic="codes",
            )
        ]
    if health.used >= USED:
        return []
    far = health.dead_distance is not None and health.dead_distance > 0.5
    where = (
        f"; the others lie {health.dead_distance:.2g} times the latents' spread away from any latent"
        if health.dead_distance is not None
        else ""
    )
    return [
        Finding(
            "few codes are used",
            f"{health.used:.1%} of {health.size:,}{where}",
            f"over {USED:.0%}",
            "Only codes that are chosen move, and these are never near: use simvq, or ema with reset=state, or "
            "start from data."
            if far
            else "The codes lie among the latents but too dense for them: lower the codebook_size, or raise "
            "the loss weight of the quantizer (model.quantizer.weight).",
            topic="codes",
        )
    ]


def training_findings(line: dict[str, float]) -> list[Finding]:
    """What a line of a tokenizer's metrics says against it, worst first."""
    found = [
        constant_finding(line),
        position_finding(line["latents/position_share"])
        if line.get("latents/position_share", 0) > POSITION
        else None,
        used_finding(line),
        rank_finding(line["codebook/effective_rank"], int(line["codebook/dim"]))
        if "codebook/dim" in line and line["codebook/size"] > 1
        else None,
        *step_findings(line),
    ]
    return [finding for finding in found if finding is not None]


def constant_finding(line: dict[str, float]) -> Finding | None:
    """A reconstruction that is no better than the best constant."""
    if "heldout/psnr" in line and "constant/psnr" in line:
        error, constant, unit = line["heldout/psnr"], line["constant/psnr"], " dB"
        good = error > constant + PSNR_GAIN
        usual = f"{PSNR_GAIN} dB more at the least"
    elif "heldout/mel" in line and "constant/mel" in line:
        error, constant, unit = line["heldout/mel"], line["constant/mel"], ""
        good = error < (1 - BETTER) * constant
        usual = f"{BETTER:.0%} less at the least"
    else:
        return None
    if good:
        return None
    kind = "PSNR" if unit else "mel distance"
    return Finding(
        "the reconstruction is no better than a constant",
        f"{kind} {error:.2f}{unit}, of the best constant {constant:.2f}{unit}",
        usual,
        "Train longer (steps), or change optim.lr.",
        failed=True,
        topic="output",
    )


def used_finding(line: dict[str, float]) -> Finding | None:
    """A codebook of which little is used, over enough positions to use it all."""
    size, positions = line.get("codebook/size", 0), line.get("codebook/positions", 0)
    if size < 2 or positions < 4 * size or line["codebook/used"] >= USED:
        return None
    return Finding(
        "few codes are used",
        f"{line['codebook/used']:.1%} of {size:,.0f} over {positions:,.0f} positions, perplexity "
        f"{line['codebook/perplexity']:,.0f}",
        f"over {USED:.0%}",
        "Ask `simvq doctor` for the cause; raise model.quantizer.weight or quantizer_lr, or lower "
        "model.quantizer.codebook_size.",
        topic="codes",
    )


def constant_in_words(line: dict[str, float]) -> str:
    """What the best constant output reaches, for the eye."""
    reached = [f"{NAMES[name]} {value:.2f}" for name, value in line.items() if name in NAMES]
    return f"the best constant output has {', '.join(reached)}"


def in_words(metrics: dict[str, float]) -> str:
    """A line of metrics for the eye."""
    parts = [f"loss {metrics['loss/total']:.3f}"]
    for name, constant in (("heldout/psnr", "constant/psnr"), ("heldout/mel", "constant/mel")):
        if name in metrics:
            parts.append(f"{NAMES[name]} {metrics[name]:.2f} (constant {metrics[constant]:.2f})")
    if metrics["codebook/size"] > 1:
        used = f"{metrics['codebook/used']:.1%} of {metrics['codebook/size']:,.0f} codes used"
        parts.append(used)
    found = training_findings(metrics)
    return ", ".join(parts) + (f"; {verdict(found)}" if found else "")


def tokenizer_summary(line: dict[str, float]) -> list[str]:
    """Three lines on a tokenizer: what it reconstructs, its codes, its training."""
    found = training_findings(line)
    watched = [
        f"held-out {NAMES[name]} {line[name]:.2f}, the best constant {line.get(constant, math.nan):.2f}"
        for name, constant in (("heldout/psnr", "constant/psnr"), ("heldout/mel", "constant/mel"))
        if name in line
    ]
    codes = "there are none"
    if line["codebook/size"] > 1:
        codes = (
            f"{line['codebook/used']:.1%} of {line['codebook/size']:,} used over the last "
            f"{line['codebook/positions']:,} positions, perplexity {line['codebook/perplexity']:,.0f}, "
            f"effective rank {line['codebook/effective_rank']:.1f}"
        )
    said: dict[Topic, str] = {
        "output": ", ".join(watched),
        "codes": codes,
        "training": steps_in_words(line),
    }
    return summary("tokenizer", said, found)
