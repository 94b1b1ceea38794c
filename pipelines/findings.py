"""What a tokenizer's and a prior's training say against themselves, for the report on their scores."""

from pathlib import Path

from common.findings import lines
from common.tracking import read_metrics
from stage1_tokenizer.findings import training_findings
from stage2_prior.findings import prior_findings


def run_findings(tokenizer_run: Path | None, prior_run: Path | None) -> list[str]:
    """The findings of both runs, a line each; nothing where there is nothing to say."""
    findings = []
    if tokenizer_run and (metrics := read_metrics(tokenizer_run)):
        findings += [f"{tokenizer_run}: {line}" for line in lines(training_findings(metrics[-1]))]
    if prior_run and (metrics := read_metrics(prior_run)):
        findings += [f"{prior_run}: {line}" for line in lines(prior_findings(metrics))]
    return findings
