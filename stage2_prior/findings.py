"""What a prior's training says against it, and what to change."""

from typing import Any

from common.findings import Finding, Topic, step_findings, steps_in_words, summary

TABLES = {
    "baseline/bigram_nats": "bigrams",
    "baseline/unigram_nats": "unigrams",
    "baseline/chance_nats": "chance",
}
"""The baselines, for the eye."""
MARGIN = 0.005
"""Nats per code by which a prior must be below a table."""
OVERFIT = 0.02
"""Share by which the last held-out loss is above the best where a prior has begun to learn by heart."""


def prior_findings(rows: list[dict[str, Any]]) -> list[Finding]:
    """What the lines of a prior's metrics say against it, worst first."""
    held_out = [row for row in rows if "heldout/nats_per_code" in row]
    if not held_out:
        return []
    best = min(held_out, key=lambda row: row["heldout/nats_per_code"])
    found = [*_tables(best), *_course(held_out, best)]
    return found + [finding for row in logged(rows)[-1:] for finding in step_findings(row)]


def _tables(best: dict[str, Any]) -> list[Finding]:
    """A prior that a table beats."""
    nats = best["heldout/nats_per_code"]
    if "baseline/bigram_nats" not in best or nats < best["baseline/bigram_nats"] - MARGIN:
        return []
    constant = nats >= best["baseline/unigram_nats"] - MARGIN
    name = "unigram" if constant else "bigram"
    return [
        Finding(
            f"the prior is no better than a {name} table",
            f"{nats:.3f} nats per held-out code, the table {best[f'baseline/{name}_nats']:.3f}",
            "less than the table",
            "Train longer (steps), or change optim.lr or size.",
            topic="output",
            failed=constant,
        )
    ]


def _course(held_out: list[dict[str, Any]], best: dict[str, Any]) -> list[Finding]:
    """Where the lowest held-out loss stands among all: at the start, or at the end."""
    nats = [row["heldout/nats_per_code"] for row in held_out]
    if len(nats) < 3:
        return []
    number = f"held-out {min(nats):.3f} nats per code at step {best['step']:,}, at the end {nats[-1]:.3f}"
    if best is held_out[0]:
        return [
            Finding(
                "the prior was best at its first look at the held-out codes",
                number,
                "a minimum later on",
                "It learns by heart: raise dropout, lower size or steps, or encode more views.",
                topic="codes",
            )
        ]
    falling = nats[-2] - nats[-1] > OVERFIT * nats[-1]
    if best is held_out[-1] and falling:
        return [
            Finding(
                "the prior was still learning",
                f"{number}, {nats[-2] - nats[-1]:.3f} less than at the look before",
                "no more than a little to gain at the end",
                "More steps would help.",
                topic="codes",
            )
        ]
    return []


def prior_summary(rows: list[dict[str, Any]]) -> list[str]:
    """Three lines on a prior: what it predicts against tables, its course, its training."""
    held_out = [row for row in rows if "heldout/nats_per_code" in row]
    best = min(held_out, key=lambda row: row["heldout/nats_per_code"])
    said: dict[Topic, str] = {
        "output": f"held-out {best['heldout/nats_per_code']:.3f} nats per code{tables(best)}",
        "codes": f"lowest at step {best['step']:,}, the last look at step {held_out[-1]['step']:,}",
        "training": steps_in_words(logged(rows)[-1]),
    }
    return summary("prior", said, prior_findings(rows))


def tables(row: dict[str, Any]) -> str:
    """What tables and chance reach, for the eye; nothing for a run of an earlier version."""
    known = ", ".join(f"{name} {row[key]:.3f}" for key, name in TABLES.items() if key in row)
    return f" ({known})" if known else ""


def logged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that tell of the steps themselves."""
    return [row for row in rows if "optim/skipped" in row]
