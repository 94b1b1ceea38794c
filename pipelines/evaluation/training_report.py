"""report.html of a tokenizer's run: its curves, and held-out pictures at the last save."""

import json
from pathlib import Path

from common.config import write_text
from common.findings import lines
from common.tracking import read_metrics
from pipelines.evaluation.images.figures import curve_figures
from pipelines.evaluation.report import Figure, render
from stage1_tokenizer.findings import training_findings
from stage2_prior.findings import prior_findings


def run_findings(tokenizer_run: Path | None, prior_run: Path | None) -> list[str]:
    """What both trainings say against themselves, a line each; nothing where there is nothing to say."""
    found = []
    for run, findings in (
        (tokenizer_run, lambda rows: training_findings(rows[-1])),
        (prior_run, prior_findings),
    ):
        if run is not None and (rows := read_metrics(run)):
            found += [f"{run}: {line}" for line in lines(findings(rows))]
    return found


def write_training_report(run_dir: Path) -> Path:
    """Writes run_dir/report.html and returns its path."""
    figures = [
        Figure(
            "Held-out pictures",
            f"Originals above reconstructions by the averaged weights, {path.stem}.",
            path.read_bytes(),
        )
        for path in sorted((run_dir / "pictures").glob("*.png"))[-1:]
    ]
    figures += curve_figures("tokenizer", run_dir)
    found = lines(training_findings(read_metrics(run_dir)[-1]))
    about = json.loads((run_dir / "environment.json").read_text())
    about["config"] = (run_dir / "config.yaml").read_text().splitlines()
    write_text(
        run_dir / "report.html",
        render(f"Training of {run_dir}", [], figures, about, found or ["ok"]),
    )
    return run_dir / "report.html"
