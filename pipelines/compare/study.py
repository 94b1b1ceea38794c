"""compare: every quantizer through the same two stages, one table over all."""

from pathlib import Path

from pipelines.compare.config import CompareConfig, CompareRow
from pipelines.compare.numbers import measured
from pipelines.compare.runs import row_name, run_all, run_verbs, verb_config, write
from pipelines.compare.table import write_tables
from pipelines.compare.tuning import tune

PATHS = {
    "train-tokenizer": {"run_dir": "tokenizer"},
    "encode": {"tokenizer": "tokenizer/model", "out": "codes"},
    "train-prior": {"run_dir": "prior", "codes": "codes", "tokenizer": "tokenizer/model"},
    "sample": {"pipeline": "prior/pipeline", "out": "samples"},
    "score": {
        "tokenizer": "tokenizer/model",
        "samples": "samples",
        "codes": "codes",
        "tokenizer_run": "tokenizer",
        "prior_run": "prior",
    },
}
"""The keys of each verb's config that are paths of a row's own, and where they lead in its folder."""
SEEDED = ("train-tokenizer", "train-prior", "sample")
CEILING = "continuous"
"""The method without codes: it has no prior and no samples."""


def compare(config: CompareConfig) -> Path:
    """Runs what is missing; writes compare.csv, compare.md and compare.png; returns the second.

    Raises ValueError for a row that failed, after the others have ended.
    """
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
            "the same command goes on"
        )
    return table


def classify(config: CompareConfig) -> None:
    """Trains the classifier that all rows are scored with, where the experiment has one."""
    if (config.experiment / "train-classifier.yaml").is_file():
        folder = config.out / "configs"
        write(verb_config(config, "train-classifier", ()), folder / "train-classifier.yaml")
        log = config.out / "classifier.txt"
        if not run_verbs(config, folder, log):
            raise ValueError(
                f"the classifier that all rows share failed: {log} says why; the same command goes on"
            )


def prepare(config: CompareConfig, row: CompareRow, seed: int) -> Path:
    """The row's folder, with the configs of its verbs."""
    folder = config.out / "rows" / f"{row_name(row)}-s{seed}"
    for verb in verbs_of(row):
        found = verb_config(config, verb, row.settings)
        if verb == "train-tokenizer":
            found["model"]["quantizer"] = dict(row.quantizer)
        if verb in SEEDED:
            found["seed"] = seed
        write(found | own_paths(row, verb, folder), folder / "configs" / f"{verb}.yaml")
    return folder


def verbs_of(row: CompareRow) -> list[str]:
    """What is run for a row: no training of a tokenizer from elsewhere, no prior where there are no codes."""
    if row.tokenizer is not None:
        return [verb for verb in PATHS if verb != "train-tokenizer"]
    return ["train-tokenizer", "score"] if is_ceiling(row) else [*PATHS]


def own_paths(row: CompareRow, verb: str, folder: Path) -> dict[str, str | None]:
    """The keys of a verb's config that lead to the row's folder, or to its tokenizer from elsewhere."""
    own: dict[str, str | None] = {key: str(folder / place) for key, place in PATHS[verb].items()}
    if row.tokenizer is not None and "tokenizer" in own:
        own["tokenizer"] = str(row.tokenizer)
    if verb == "score" and is_ceiling(row):
        own |= {"samples": None, "codes": None, "prior_run": None, "out": str(folder / "scores")}
    return own


def is_ceiling(row: CompareRow) -> bool:
    """Whether the row is the autoencoder without codes."""
    return row.quantizer.get("method") == CEILING
