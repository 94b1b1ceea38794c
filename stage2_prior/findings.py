"""What a prior's training says against it, and what to change."""

from typing import Any

from common.findings import Finding, Topic, step_findings, steps_in_words, summary

BASELINES = {
    "baseline/bigram_nats": "bigrams",
    "baseline/unigram_nats": "unigrams",
    "baseline/chance_nats": "chance",
}
"""What the baselines are called in a run's lines."""
MARGIN = 0.005
"""Nats per code by which a prior must be below a baseline."""
OVERFIT = 0.02
"""Relative change of the held-out loss that counts: above the best as overfitting, below the previous as learning."""


def prior_findings(lines: list[dict[str, Any]]) -> list[Finding]:
    """What the lines of a prior's metrics say against it: its output first, then its course, then its steps."""
    held_out = [line for line in lines if "heldout/nats_per_code" in line]
    if not held_out:
        return []
    best = min(held_out, key=lambda line: line["heldout/nats_per_code"])
    findings = [*_baseline_findings(best), *_course_findings(held_out, best)]
    return findings + [
        one for line in step_lines(lines)[-1:] for one in step_findings(line, "prior")
    ]


def _baseline_findings(best: dict[str, Any]) -> list[Finding]:
    """A prior that a baseline beats."""
    nats = best["heldout/nats_per_code"]
    if "baseline/bigram_nats" not in best:
        return []
    constant = nats >= best["baseline/unigram_nats"] - MARGIN
    if nats < best["baseline/bigram_nats"] - MARGIN and not constant:
        return []
    name = "unigram" if constant else "bigram"
    return [
        Finding(
            f"the prior is no better than a {name} table",
            f"{nats:.3f} nats per held-out code, the table {best[f'baseline/{name}_nats']:.3f}",
            f"less than the table by {MARGIN} at the least",
            "Train longer (prior.steps), or change prior.optim.lr or prior.size.",
            topic="output",
            failed=constant,
        )
    ]


def _course_findings(held_out: list[dict[str, Any]], best: dict[str, Any]) -> list[Finding]:
    """Where the lowest held-out loss stands among all: at the start, or at the end."""
    nats = [line["heldout/nats_per_code"] for line in held_out]
    if len(nats) < 3:
        return []
    course = f"held-out {min(nats):.3f} nats per code at step {best['step']:,}, at the end {nats[-1]:.3f}"
    if best is held_out[0]:
        return [
            Finding(
                "the prior was best at its first evaluation",
                course,
                "a minimum later on",
                "It overfits: raise prior.dropout, lower prior.size or prior.steps, or encode more codes.views.",
                topic="course",
            )
        ]
    falling = nats[-2] - nats[-1] > OVERFIT * nats[-1]
    if best is held_out[-1] and falling:
        return [
            Finding(
                "the prior was still learning",
                f"{course}, {nats[-2] - nats[-1]:.3f} less than at the evaluation before",
                "no more than a little to gain at the end",
                "More prior.steps would help.",
                topic="course",
            )
        ]
    return []


def in_words(line: dict[str, Any]) -> str:
    """An evaluation for the eye: the held-out loss, bigrams', the lowest so far, and what is wrong."""
    nats, best = line["heldout/nats_per_code"], line["heldout/best_nats_per_code"]
    wrong = [finding.name for finding in _baseline_findings(line)]
    if nats > best * (1 + OVERFIT):
        wrong.append("the prior overfits")
    bigrams = line["baseline/bigram_nats"]
    text = f"held-out {nats:.3f} nats per code (bigrams {bigrams:.3f}), best {best:.3f}"
    return text + (f"; WARNING: {', '.join(wrong)}" if wrong else "")


def prior_summary(lines: list[dict[str, Any]]) -> list[str]:
    """Three lines on a prior: its loss beside the baselines, the loss's course, its training."""
    held_out = [line for line in lines if "heldout/nats_per_code" in line]
    taken = step_lines(lines)
    best = min(held_out, key=lambda line: line["heldout/nats_per_code"])
    text: dict[Topic, str] = {
        "output": f"held-out {best['heldout/nats_per_code']:.3f} nats per code{baselines_in_words(best)}",
        "course": f"lowest at step {best['step']:,}, the last evaluation at step {held_out[-1]['step']:,}",
        "training": steps_in_words(taken[-1]) if taken else "no step was logged yet",
    }
    return summary("prior", text, prior_findings(lines))


def baselines_in_words(line: dict[str, Any]) -> str:
    """What n-grams and chance reach; nothing for a run of an earlier version."""
    nats = ", ".join(f"{name} {line[key]:.3f}" for key, name in BASELINES.items() if key in line)
    return f" ({nats})" if nats else ""


def step_lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that tell of the steps themselves."""
    return [line for line in lines if "optim/skipped" in line]
