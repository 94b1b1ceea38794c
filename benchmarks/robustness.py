"""How often a recipe succeeds: its runs over seeds and numbers of threads, against what benchmarks/thresholds/RECIPE.yaml demands.

`python -m benchmarks.robustness digits` runs configs/digits.yaml, 10 seeds with one thread each and 5 with two, as many
at once as there are cores. The same command again goes on: what is done stays. With `check=runs/digits` it runs
nothing and tells whether that run is good. Keys of the recipe may be set too: `data.source=parquet`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import median

from benchmarks.side_by_side import report
from common.codes import read_manifest
from common.config import load_config, read_values
from common.files import write_text
from common.metrics import NAMES
from common.tracking import read_metrics
from pipelines.evaluation.table import read_scores
from stage1_tokenizer.findings import result_line

SEEDED = ("tokenizer", "classifier", "prior")


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """Which runs take place."""

    one_thread: int = 10
    """Seeds, from 0 on, of runs with one thread."""
    two_threads: int = 5
    """The same with two."""
    out: Path = Path("runs/robustness")
    check: Path | None = None
    """A finished run of the recipe, which alone is checked."""
    settings: tuple[str, ...] = ()
    """Keys of the recipe, each `key=value`."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What every run of a recipe must reach."""

    steps: int | None = None
    """Only the first steps of the tokenizer's training are run; null for the whole recipe."""
    at_least: dict[str, float] = field(default_factory=dict)
    at_most: dict[str, float] = field(default_factory=dict)

    def missed(self, metrics: dict[str, float]) -> list[str]:
        """In words, which metrics of a run do not reach their limits."""
        low = [
            f"{name} {metrics[name]:.4g} < {limit}"
            for name, limit in self.at_least.items()
            if not metrics[name] >= limit
        ]
        high = [
            f"{name} {metrics[name]:.4g} > {limit}"
            for name, limit in self.at_most.items()
            if not metrics[name] <= limit
        ]
        return low + high


def thresholds(recipe: str) -> Thresholds:
    """Those of a recipe, by its name."""
    return load_config(Thresholds, Path(__file__).parent / "thresholds" / f"{recipe}.yaml")


def run_metrics(run_dir: Path) -> dict[str, float]:
    """What a whole run came to: the tokenizer's last line, its codes and its scores."""
    metrics = tokenizer_metrics(result_line(read_metrics(run_dir / "tokenizer")))
    manifest = read_manifest(run_dir / "codes")
    metrics |= {"codes used": manifest["used"], "perplexity": manifest["perplexity"]}
    for row in read_scores(run_dir / "score"):
        for name, metric in row.metrics.items():
            if metric.value is not None:
                metrics[f"{name}: {row.name}"] = metric.value
    return metrics


def tokenizer_metrics(line: dict[str, float]) -> dict[str, float]:
    """Those of a line of metrics that thresholds may name."""
    return {name: line[key] for key, name in NAMES.items() if key in line}


def one_run(
    recipe: str, seed: int, threads: int, steps: int | None, config: RobustnessConfig
) -> dict[str, float]:
    """The metrics of a run, which takes place in a process of its own unless it has before.

    Raises ValueError where the folder holds a run of other settings.
    """
    folder = config.out / recipe / f"threads-{threads}-seed-{seed}"
    result, words = folder / "numbers.json", command(recipe, seed, steps, folder, config.settings)
    if not result.exists():
        minutes = timed(words, threads, folder)
        write_text(result, json.dumps({"minutes": minutes, "command": words}) + "\n")
    if json.loads(result.read_text()).get("command") != words:
        raise ValueError(f"{folder} holds a run of other settings: set out to another folder")
    if steps is None:
        metrics = run_metrics(folder)
    else:
        metrics = tokenizer_metrics(json.loads((folder / "line.json").read_text()))
    return metrics | {"minutes": json.loads(result.read_text())["minutes"]}


def command(
    recipe: str, seed: int, steps: int | None, folder: Path, settings: tuple[str, ...]
) -> list[str]:
    """What runs a recipe, or its first steps alone, with a folder and seeds of its own."""
    path = Path("configs") / f"{recipe}.yaml"
    there = [section for section in SEEDED if section in read_values(path)]
    own = [f"run_dir={folder}", *(f"{section}.seed={seed}" for section in there), *settings]
    if steps is not None:
        return ["-m", "benchmarks.first_steps", str(path), str(steps), f"{folder}/line.json", *own]
    # a collapse is counted, too
    return ["-m", "pipelines", "run", str(path), *own, "allow_failed=true"]


def timed(command: list[str], threads: int, folder: Path) -> float:
    """Runs a command in a process of its own; returns the minutes that it took."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with (folder / "log.txt").open("a") as log:
        subprocess.run(
            [sys.executable, *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            check=True,
        )
    return (time.monotonic() - start) / 60


def runs(
    recipe: str, steps: int | None, config: RobustnessConfig
) -> Iterator[tuple[int, list[dict[str, float]]]]:
    """The number of threads and all its runs' metrics, first one, then two."""
    for threads, seeds in ((1, config.one_thread), (2, config.two_threads)):
        with ThreadPoolExecutor(max((os.cpu_count() or 1) // threads, 1)) as pool:
            every = pool.map(
                lambda seed, threads=threads: one_run(recipe, seed, threads, steps, config),
                range(seeds),
            )
            yield threads, list(every)


def table(threads: int, every: list[dict[str, float]], limits: Thresholds) -> list[list[str]]:
    """A row for each metric: worst, median and best, and how many runs reach its threshold."""
    rows = []
    shown = {*NAMES.values(), *limits.at_least, *limits.at_most}
    for name in [name for name in every[0] if name in shown]:
        values = sorted(metrics[name] for metrics in every)
        limit, good, sign = "", len(values), ""
        if name in limits.at_least:
            sign, limit = ">=", f"{limits.at_least[name]:.4g}"
            good = sum(value >= limits.at_least[name] for value in values)
        if name in limits.at_most:
            sign, limit = "<=", f"{limits.at_most[name]:.4g}"
            good = sum(value <= limits.at_most[name] for value in values)
            values.reverse()
        if name == "mel distance" and not sign:
            values.reverse()
        three = [f"{value:.4g}" for value in (values[0], median(values), values[-1])]
        passed = f"{good} of {len(values)}" if sign else ""
        rows.append([str(threads), name, *three, f"{sign} {limit}".strip(), passed])
    return rows


HEADER = ["threads", "metric", "worst", "median", "best", "threshold", "reached by"]


def main(recipe: str, config: RobustnessConfig) -> str | None:
    """Runs and prints the table; returns what was missed, in words."""
    limits = thresholds(recipe)
    if config.check is not None:
        metrics = run_metrics(config.check)
        missed = limits.missed(metrics)
        text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        print(f"{config.check}: {'; '.join(missed) or 'good'} ({text})")
        return "; ".join(missed) or None
    every = dict(runs(recipe, limits.steps, config))
    rows = [
        row
        for threads, several in every.items()
        if several
        for row in table(threads, several, limits)
    ]
    report(f"robustness-{recipe}", HEADER, rows, every)
    missed = [
        text for several in every.values() for metrics in several for text in limits.missed(metrics)
    ]
    return "; ".join(missed) or None


if __name__ == "__main__":
    NAMES_HERE = {field.name for field in fields(RobustnessConfig)}
    HERE = [argument for argument in sys.argv[2:] if argument.split("=")[0] in NAMES_HERE]
    OTHERS = tuple(argument for argument in sys.argv[2:] if argument not in HERE)
    CONFIG = replace(load_config(RobustnessConfig, None, HERE), settings=OTHERS)
    sys.exit(main(sys.argv[1], CONFIG))
