"""report.html of a tokenizer's run: its curves, and held-out items at the last save."""

from pathlib import Path

from common.files import read_json, write_text
from common.findings import lines
from common.tracking import read_metrics
from pipelines.evaluation.figures import curve_figures
from pipelines.evaluation.report import Figure, render
from stage1_tokenizer.findings import training_findings


def write_training_report(run_dir: Path) -> Path:
    """Writes run_dir/report.html and returns its path."""
    figures = [
        Figure(
            "Held-out items",
            f"Originals above reconstructions by the averaged weights, {path.stem}.",
            path.read_bytes(),
        )
        for path in sorted((run_dir / "examples").glob("*.png"))[-1:]
    ]
    figures += curve_figures("tokenizer", run_dir)
    findings = lines(training_findings(read_metrics(run_dir)[-1])) or ["ok"]
    about = read_json(run_dir / "environment.json")
    about["config"] = (run_dir / "config.yaml").read_text().splitlines()
    report = run_dir / "report.html"
    write_text(report, render(f"Training of {run_dir}", [], figures, about, findings))
    return report
