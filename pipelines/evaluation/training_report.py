"""report.html of a tokenizer's or a classifier's run: how well it went, held-out items, and its curves."""

from collections.abc import Sequence
from pathlib import Path

from common.files import read_json, write_text
from common.findings import Finding, lines
from common.metrics import NAMES
from common.tracking import read_metrics
from pipelines.evaluation.figures import curve_figures
from pipelines.evaluation.report import AudioPlayers, Figure, Look, render
from stage1_tokenizer.findings import (
    BEST_STEP,
    reconstruction_metric,
    result_line,
    training_findings,
)


def write_training_report(run_dir: Path, method: str | None = None) -> Path:
    """Writes run_dir/report.html of the training of a tokenizer with this quantizer, and returns its path."""
    last = result_line(read_metrics(run_dir))
    findings = training_findings(last, method)
    figures = [*example_figures(run_dir), *curve_figures("tokenizer", run_dir)]
    words = f"{tokenizer_words(last)} {next_step(findings, 'simvq encode, then simvq train-prior')}"
    return write_run_report(run_dir, words, figures, findings)


def write_classifier_report(run_dir: Path) -> Path:
    """Writes run_dir/report.html of a classifier's training and returns its path."""
    last = read_metrics(run_dir)[-1]
    classes = len(read_json(run_dir / "model" / "config.json")["classes"])
    words = (
        f"After {last['step']:,} steps the classifier finds the label of {last['heldout/accuracy']:.1%} of the "
        f"held-out items; chance is {1 / classes:.1%}. Scores rest on its features: where it errs often, train it "
        "longer (classifier.steps) first. Next: simvq score."
    )
    return write_run_report(run_dir, words, curve_figures("classifier", run_dir), [])


def write_run_report(
    run_dir: Path,
    words: str,
    figures: Sequence[Figure | AudioPlayers],
    findings: Sequence[Finding],
) -> Path:
    """Writes run_dir/report.html of a training of any kind, which begins with `words`."""
    about = read_json(run_dir / "environment.json")
    about["config"] = (run_dir / "config.yaml").read_text().splitlines()
    report = run_dir / "report.html"
    page = render(f"Training of {run_dir}", words, [], figures, about, lines(findings))
    write_text(report, page)
    return report


def next_step(findings: Sequence[Finding], commands: str) -> str:
    """What to do after a training: the worst finding's change, or the commands that use its result."""
    if findings:
        return f"Not as it should be: {findings[0].name}. Next: {findings[0].change}"
    return f"Nothing looks wrong. Next: {commands}."


def tokenizer_words(last: dict[str, float]) -> str:
    """How well a tokenizer reconstructs, against the best constant output, and the use of its codes."""
    key, value, constant = reconstruction_metric(last)
    beside = "" if constant is None else f"; the best constant output has {constant:.2f}"
    text = f"After {last.get(BEST_STEP, last['step']):,} steps, held-out reconstructions have a {NAMES.get(key, key)} of {value:.2f}{beside}. "
    if last["codebook/size"] < 2:
        return f"{text}There are no codes."
    return (
        f"{text}Over the last {last['codebook/positions']:,} positions {last['codebook/used']:.1%} of "
        f"{last['codebook/size']:,} codes were used, with a perplexity of {last['codebook/perplexity']:,.0f}."
    )


def example_figures(run_dir: Path) -> list[Figure | AudioPlayers]:
    """Held-out items of the last save: images as a grid, speech as players and spectrograms."""
    figures: list[Figure | AudioPlayers] = []
    for path in sorted((run_dir / "examples").glob("*.png"))[-1:]:
        after = f"by the averaged weights, {path.stem}"
        if sounds := sorted(path.with_suffix("").glob("*.wav")):
            caption = f"Each clip, and its reconstruction {after}."
            clips = {wav.stem.replace("-", " "): wav.read_bytes() for wav in sounds}
            figures.append(AudioPlayers("Held-out clips", caption, clips))
        title = "Spectrograms of held-out clips" if sounds else "Held-out items"
        caption = f"Originals above reconstructions {after}."
        look: Look = "plot" if sounds else "images"
        figures.append(Figure(title, caption, path.read_bytes(), look))
    return figures
