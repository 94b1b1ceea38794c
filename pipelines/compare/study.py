"""compare: every quantizer through the same two stages, one table over all."""

from collections.abc import Sequence
from pathlib import Path

from common.config import to_plain
from common.figures import png
from common.files import replaced_file, write_text
from pipelines.compare.config import CompareConfig, CompareRow
from pipelines.compare.figure import plot
from pipelines.compare.lines import lines_of
from pipelines.compare.metrics import Measured, measured
from pipelines.compare.page import compare_page
from pipelines.compare.runs import (
    EXPERIMENT,
    experiment_values,
    folder_name,
    run_all,
    run_experiment,
    write_experiment,
)
from pipelines.compare.table import csv_text, markdown
from pipelines.compare.tuning import tune

SEEDED = ("tokenizer", "prior", "samples")
CEILING = "continuous"
"""The method without codes: it has no prior and no samples."""


def compare(config: CompareConfig) -> Path:
    """Runs what is missing, writes compare.csv, .md, .png and .html, and returns the path of compare.md.

    Raises ValueError for a row that failed, after the others have ended.
    """
    refuse_shared_folders(config)
    classify(config)
    rows, failed = tune(config)
    runs = [
        (row, seed, prepare(config, row, seed))
        for row in rows
        for seed in row.seeds or config.seeds
    ]
    ended = [*run_all(config, [folder for _, _, folder in runs])]
    done = [run for run, well in zip(runs, ended, strict=True) if well]
    failed += [f"rows/{run[2].name}" for run, well in zip(runs, ended, strict=True) if not well]
    table = write_tables(config, [measured(*run) for run in done])
    if failed:
        raise ValueError(
            f"{', '.join(failed)} failed: log.txt there, in {config.out}, says why; "
            "run the same command again to resume"
        )
    return table


def write_tables(config: CompareConfig, results: Sequence[Measured]) -> Path:
    """Writes compare.csv, compare.md, compare.png and compare.html; returns the path of the second."""
    lines, extractor = lines_of(results), results[0].extractor if results else ""
    write_text(config.out / "compare.csv", csv_text(results))
    write_text(config.out / "compare.md", markdown(lines, extractor))
    if results:
        figure = png(plot(lines))
        with replaced_file(config.out / "compare.png") as partial:
            partial.write_bytes(figure)
        page = compare_page(lines, extractor, figure, to_plain(config))
        write_text(config.out / "compare.html", page)
    return config.out / "compare.md"


def classify(config: CompareConfig) -> None:
    """Trains the classifier that all rows are scored with, where the experiment has one."""
    values = experiment_values(config, {})
    if "classifier" in values:
        shared = ("modality", "data", "classifier")
        only = {key: values[key] for key in shared if key in values}
        write_experiment(only | {"run_dir": str(config.out)}, config.out / EXPERIMENT)
        log = config.out / "classifier.txt"
        if not run_experiment(config, config.out / EXPERIMENT, log):
            raise ValueError(
                f"the classifier that all rows share failed: {log} says why; run the same command again to resume"
            )


def refuse_shared_folders(config: CompareConfig) -> None:
    """Raises ValueError for two rows whose results would go to one folder."""
    names: dict[str, str] = {}
    for row in config.rows:
        folder = folder_name(row)
        if folder in names:
            raise ValueError(
                f"rows {names[folder]!r} and {row.name!r} would both be in {config.out / 'rows' / folder}: rename one"
            )
        names[folder] = row.name


def prepare(config: CompareConfig, row: CompareRow, seed: int) -> Path:
    """The row's folder, with its experiment: that of the study, its quantizer, and the classifier of all rows."""
    folder = config.out / "rows" / f"{folder_name(row)}-s{seed}"
    values = experiment_values(config, row.settings) | {"run_dir": str(folder)}
    if values.pop("classifier", None) is not None:
        for section in ("samples", "score"):
            values[section]["classifier"] = str(config.out / "classifier" / "model")
    for section in SEEDED:
        values[section]["seed"] = seed
    if row.tokenizer is not None:
        del values["tokenizer"]
        for section in ("codes", "prior", "score"):
            values[section]["tokenizer"] = str(row.tokenizer)
    else:
        values["tokenizer"].setdefault("model", {})["quantizer"] = dict(row.quantizer)
    if row.quantizer.get("method") == CEILING:
        for section in ("codes", "prior", "samples"):
            del values[section]
    write_experiment(values, folder / EXPERIMENT)
    return folder
