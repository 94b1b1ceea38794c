"""What is wrong with a run, in words: what was measured, what is usual, and what to change."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Topic = Literal["output", "codes", "course", "training"]
CLIPPED = 0.95
"""Share of the steps above which all are clipped."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    name: str
    """In a few words, for a line of the log: `few codes are used`."""
    measured: str
    """What was measured: `6.2 % of 256 codes`."""
    usual: str
    """What a healthy run has."""
    change: str
    """The key to change, or what to try."""
    topic: Topic = "training"
    """Which line of a summary it belongs to."""
    failed: bool = False
    """Whether the result is of no use: no better than a constant or a table of counts, or most steps were skipped."""

    def __str__(self) -> str:
        return f"{self.name}: {self.measured}; usual is {self.usual}. {self.change}"


class FailedRunError(Exception):
    """A training whose result is of no use."""


def refuse_failed(findings: Sequence[Finding], text: str, allowed: bool) -> None:
    """Raises FailedRunError, with `text` and all findings, for a run that failed, unless that is allowed."""
    if any(finding.failed for finding in findings) and not allowed:
        message = [text, *lines(findings), "To go on nevertheless, set allow_failed=true."]
        raise FailedRunError("\n".join(message))


def verdict(findings: Sequence[Finding]) -> str:
    """`ok`, or the names of the findings."""
    return f"WARNING: {', '.join(finding.name for finding in findings)}" if findings else "ok"


def lines(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding, in full."""
    return [f"{'FAILED' if f.failed else 'WARNING'}: {f}" for f in findings]


def summary(stage: str, topics: dict[Topic, str], findings: Sequence[Finding]) -> list[str]:
    """A line for each topic of a stage: ok or warning, and what was measured."""
    text = []
    for topic, measured in topics.items():
        mine = [finding for finding in findings if finding.topic == topic]
        text.append(f"{stage:<10} {topic:<9} {'WARNING' if mine else 'ok':<8} {measured}")
        text += [f"{'':<21} {finding}" for finding in mine]
    return text


def step_findings(line: dict[str, float], section: str) -> list[Finding]:
    """Findings on skipped steps and on constant clipping; `section` is the one whose keys they name."""
    findings = []
    if line.get("optim/skipped", 0) > 0:
        findings.append(
            Finding(
                "steps were skipped",
                f"{line['optim/skipped']:,.0f} of {line['step']:,.0f}, whose loss or gradient was not finite",
                "none",
                f"Lower {section}.optim.lr, or set {section}.precision=fp32.",
                failed=line["optim/skipped"] > line["step"] / 2,
            )
        )
    if line.get("optim/clipped", 0) > CLIPPED and math.isfinite(line["optim/grad_norm"]):
        findings.append(
            Finding(
                "every step is clipped",
                f"{line['optim/clipped']:.0%} of the latest steps, at a norm of {line['optim/grad_norm']:.3g}",
                f"less than {CLIPPED:.0%}",
                f"Raise {section}.optim.grad_clip above the usual norm.",
            )
        )
    return findings


def steps_in_words(line: dict[str, float]) -> str:
    """How many steps were taken, skipped and clipped."""
    clipped = (
        f", {line['optim/clipped']:.0%} of the latest steps clipped"
        if "optim/clipped" in line
        else ""
    )
    return f"{line['step']:,} steps, {line.get('optim/skipped', 0):,} skipped{clipped}"
