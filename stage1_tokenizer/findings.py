"""What measures of a codebook, or a line of a training's metrics, say against it, and what to change."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from common.findings import Finding, Topic, step_findings, steps_in_words, summary, verdict
from common.metrics import NAMES
from stage1_tokenizer.advice import DENSE, UNKNOWN, UNUSED
from stage1_tokenizer.codebook_usage import WINDOW, CodebookHealth

USED = 0.5
"""Too few codes are used if they are fewer than this share of the codes that uniform choices would use."""
POSITION = 0.8
"""Latents hardly depend on the input if position alone explains more than this share of their variance."""
BETTER = 0.05
"""The reconstruction error must be lower than the best constant output's error by at least this share."""
PSNR_GAIN = 1.0
"""A reconstruction's PSNR must be higher by this many dB; PSNR is the only metric for which higher is better."""
NEAR = 2.0
"""Unused codes lie among the latents if they are less than this many times as far from a latent as used codes are."""
CONSTANT = 1e-6
"""Latents whose scale is below this count as constant."""
BEST_STEP = "best/step"
"""In a line of metrics where patience is on: the step of the best evaluation until then, whose model is kept."""
codes_finding = partial(Finding, topic="codes")


def causes(
    health: CodebookHealth, by_distance: bool = True, method: str | None = None
) -> list[Finding]:
    """Which causes of collapse fit, the likeliest first; none for a healthy codebook.

    `by_distance` says that latents choose the nearest code. If not, or if the quantizer first maps latents to a sphere
    or grid, scales are not compared. `method` is the quantizer's `method` key, where known.
    """
    by_distance = by_distance and not health.one_norm and method != "fsq"
    if health.latents_scale < CONSTANT:  # beside which nothing else says anything
        return _latents(health)
    findings = [
        *_latents(health),
        *(_scales(health) if by_distance else []),
        *_geometry(health),
        *_few_used(health, by_distance, method),
    ]
    return findings or (_error(health) if by_distance else [])


def _error(health: CodebookHealth) -> list[Finding]:
    if health.error < 1:
        return []
    return [
        codes_finding(
            "the codes say less than one code at the mean would",
            f"the latents' mean squared distance to their codes is {health.error:.2g} of their variance",
            "well below 1",
            "Initialise the codes from the latents, or train longer.",
        )
    ]


def _latents(health: CodebookHealth) -> list[Finding]:
    if health.latents_scale < CONSTANT:
        return [
            codes_finding(
                "latents are constant",
                f"they vary by {health.latents_scale:.2g}",
                "latents that vary with the input",
                "Look at the encoder's init and learning rate (tokenizer.optim.lr), not at the codebook.",
            )
        ]
    if health.position is not None and health.position > POSITION:
        return [position_finding(health.position)]
    return []


def position_finding(share: float) -> Finding:
    """Latents that tell their position and little else."""
    return codes_finding(
        "latents hardly depend on the input",
        f"{share:.1%} of their variance is their position alone",
        f"less than {POSITION:.0%}",
        "The encoder has not learned from its input: train longer, or lower tokenizer.optim.lr.",
    )


def _scales(health: CodebookHealth) -> list[Finding]:
    findings = []
    if not 0.25 <= health.scale <= 4:
        findings.append(
            codes_finding(
                "codes and latents have other scales",
                f"the codes spread {health.scale:.2g} times as far as the latents",
                "0.25 to 4 times",
                "Initialise the codes from the latents (SimVQ: tokenizer.model.quantizer.rescale=true; VQ: start=data; in your "
                "own loop call init_from), or normalise the latents.",
            )
        )
    if health.offset > 2:
        findings.append(
            codes_finding(
                "the latents have drifted away from the codes",
                f"their means are {health.offset:.2g} times the latents' spread apart",
                "less than 2",
                "Let the codes follow: a bias (SimVQ: bias=true), a larger tokenizer.quantizer_lr, or a smaller tokenizer.optim.lr.",
            )
        )
    return findings


def _geometry(health: CodebookHealth) -> list[Finding]:
    findings = []
    if health.duplicates > 0.05:
        findings.append(
            codes_finding(
                "codes are alike",
                f"{health.duplicates:.1%} of them equal another",
                "none",
                "Initialise them apart: from data, or at random; codes that are equal get the same updates.",
            )
        )
    if (finding := rank_finding(health.rank, health.dim, health.size)) is not None:
        findings.append(finding)
    return findings


def rank_finding(rank: float, dim: int, size: float) -> Finding | None:
    """A warning if the effective rank is far below what `dim` dimensions and `size` codes allow; else None."""
    most = min(dim, int(size) - 1)
    if most < 4 or rank >= max(most / 8, 1.5):
        return None
    return codes_finding(
        "the codebook has collapsed in dimension",
        f"effective rank {rank:.1f} of {most}",
        f"{max(most / 8, 1.5):.1f} or more",
        "Lower tokenizer.model.quantizer.weight, or set tokenizer.model.quantizer.code_dim to what is used; "
        "SimVQ's gram_penalty=1e-3 keeps dimensions apart.",
    )


def _few_used(health: CodebookHealth, by_distance: bool, method: str | None) -> list[Finding]:
    if health.vectors < 4 * health.size:
        return [
            codes_finding(
                "too few vectors to tell",
                f"{health.vectors:,} latents for {health.size:,} codes",
                "four times as many as codes, or more",
                "Look at more latents before you trust the share of codes used.",
            )
        ]
    if health.used >= USED:
        return []
    name, measured = "few codes are used", f"{health.used:.1%} of {health.size:,}"
    advice = UNUSED.get(method or "", UNKNOWN)
    if by_distance and health.dead_distance is not None:
        measured += f"; the others lie {health.dead_distance:.2g} times the latents' spread away from any latent"
        if health.dead_distance < NEAR * math.sqrt(health.error):
            advice = DENSE
    return [codes_finding(name, measured, f"over {USED:.0%}", advice)]


def result_line(metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last line of a tokenizer's metrics, with evaluation and code measures of the step whose weights are kept.

    If its line has no code measures (step 0 of a run with `init_from`), or no evaluation was finite, the last line's
    stay.
    """
    last = metrics[-1]
    step = last.get(BEST_STEP, last["step"])
    kept = next((line for line in metrics if line["step"] == step), last)
    measured = ("heldout/", "latents/", "codebook/")
    return last | {key: value for key, value in kept.items() if key.startswith(measured)}


def training_findings(line: dict[str, float], method: str | None = None) -> list[Finding]:
    """What a line of a tokenizer's metrics says against it, worst first; `method` is its quantizer's."""
    position = line.get("latents/position_share", 0)
    has_codes = "codebook/dim" in line and line["codebook/size"] > 1
    findings = [
        constant_finding(line),
        position_finding(position) if position > POSITION else None,
        used_finding(line, method),
        rank_finding(
            line["codebook/effective_rank"],
            int(line["codebook/dim"]),
            line["codebook/size"] / line.get("codebook/levels", 1),
        )
        if has_codes
        else None,
        *step_findings(line, "tokenizer"),
    ]
    return [finding for finding in findings if finding is not None]


def reconstruction_metric(line: dict[str, float]) -> tuple[str, float, float | None]:
    """The key of the metric of held-out reconstructions, its value, and that of the best constant output."""
    keys = [key for key in line if key.startswith("heldout/")]
    (key,) = (key for key in keys if key != "heldout/quantization_error")
    return key, line[key], line.get(key.replace("heldout", "constant"))


def held_out_loss(line: dict[str, float]) -> float:
    """What is lower for better reconstructions of held-out items."""
    key, value, _ = reconstruction_metric(line)
    return -value if key == "heldout/psnr" else value


def constant_finding(line: dict[str, float]) -> Finding | None:
    """A reconstruction that is no better than the best constant."""
    key, value, constant = reconstruction_metric(line)
    if constant is None:
        return None
    usual, good = f"{BETTER:.0%} less at the least", value < (1 - BETTER) * constant
    if key == "heldout/psnr":
        usual, good = f"{PSNR_GAIN} dB more at the least", value > constant + PSNR_GAIN
    if good:
        return None
    longer = "Train longer (tokenizer.steps), or change tokenizer.optim.lr."
    return Finding(
        "the reconstruction is no better than a constant",
        f"{NAMES.get(key, key)} {value:.2f}, of the best constant {constant:.2f}",
        usual,
        longer if math.isfinite(value) else "Lower tokenizer.optim.lr.",
        failed=True,
        topic="output",
    )


def usual_share(size: float, choices: float) -> float:
    """`USED` times the share of a codebook that this many uniform choices would use; 0 if they are too few to tell."""
    if size < 2 or choices < min(4 * size, WINDOW // 2):
        return 0.0
    return -USED * math.expm1(-choices / size)


def used_finding(line: dict[str, float], method: str | None = None) -> Finding | None:
    """A codebook of which little is used, for so many positions; what to change depends on the method."""
    size, positions = line.get("codebook/size", 0), line.get("codebook/positions", 0)
    usual = usual_share(size, positions * line.get("codebook/levels", 1))
    if line.get("codebook/used", 1) >= usual:
        return None
    return codes_finding(
        "few codes are used",
        f"{line['codebook/used']:.1%} of {size:,.0f} over {positions:,.0f} positions, perplexity "
        f"{line['codebook/perplexity']:,.0f}",
        f"over {usual:.0%}",
        f"{UNUSED.get(method or '', UNKNOWN)} `simvq doctor` looks for the cause.",
    )


def constant_in_words(constant: dict[str, float]) -> str:
    """What the best constant output reaches, for the eye."""
    [(key, value)] = constant.items()
    key = key.replace("constant", "heldout")
    return f"the best constant output has {NAMES.get(key, key)} {value:.2f}"


def in_words(line: dict[str, float]) -> str:
    """A line of metrics for the eye."""
    key, value, constant = reconstruction_metric(line)
    parts = [
        f"loss {line['loss/total']:.3f}",
        f"{NAMES.get(key, key)} {value:.2f} (constant {constant:.2f})",
    ]
    if line["codebook/size"] > 1:
        parts.append(f"{line['codebook/used']:.1%} of {line['codebook/size']:,.0f} codes used")
    findings = training_findings(line)
    return ", ".join(parts) + (f"; {verdict(findings)}" if findings else "")


def tokenizer_summary(line: dict[str, float], method: str | None = None) -> list[str]:
    """Three lines on a tokenizer: what it reconstructs, its codes, its training."""
    key, value, constant = reconstruction_metric(line)
    beside = math.nan if constant is None else constant
    codes = "there are none"
    if line["codebook/size"] > 1:
        codes = (
            f"{line['codebook/used']:.1%} of {line['codebook/size']:,} used over the last "
            f"{line['codebook/positions']:,} positions, perplexity {line['codebook/perplexity']:,.0f}, "
            f"effective rank {line['codebook/effective_rank']:.1f}"
        )
    topics: dict[Topic, str] = {
        "output": f"held-out {NAMES.get(key, key)} {value:.2f}, the best constant {beside:.2f}",
        "codes": codes,
        "training": steps_in_words(line),
    }
    return summary("tokenizer", topics, training_findings(line, method))
