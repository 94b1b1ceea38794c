"""report.html of a prior's run: how well it predicts held-out codes, against what, and its curves."""

from pathlib import Path

from common.tracking import read_metrics
from pipelines.evaluation.figures import curve_figures
from pipelines.evaluation.training_report import next_step, write_run_report
from stage2_prior.findings import baselines_in_words, prior_findings


def write_prior_report(run_dir: Path) -> Path:
    """Writes run_dir/report.html of a prior's training and returns its path."""
    metrics = read_metrics(run_dir)
    held_out = [line for line in metrics if "heldout/nats_per_code" in line]
    best = min(held_out, key=lambda line: line["heldout/nats_per_code"])
    findings = prior_findings(metrics)
    words = (
        f"A held-out code costs {best['heldout/nats_per_code']:.3f} nats{baselines_in_words(best)}. That was at step "
        f"{best['step']:,} of {metrics[-1]['step']:,}, whose weights are kept. "
    )
    words += next_step(findings, "simvq sample, then simvq score")
    return write_run_report(run_dir, words, curve_figures("prior", run_dir), findings)
