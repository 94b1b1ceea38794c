"""How often a recipe succeeds: its runs over seeds and numbers of threads, against what thresholds.yaml beside it asks.

`python -m benchmarks.robustness digits` runs configs/digits, 10 seeds with one thread each and 5 with two, as many
at once as there are cores. The same command again goes on: what is done stays. With `check=runs/digits` it runs
nothing and tells whether that run is good.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.side_by_side import report
from common.codes import read_manifest
from common.config import load_config, write_text
from common.tracking import read_metrics
from pipelines.evaluation.table import read_scores

SEEDED = ("train-tokenizer", "train-classifier", "train-prior")
NAMES = {
    "codebook/used": "codes used",
    "codebook/perplexity": "perplexity",
    "heldout/psnr": "PSNR (dB)",
    "heldout/mel": "mel distance",
}
"""What a line of the tokenizer's metrics gives, and how it is called here."""


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """Which runs are made."""

    one_thread: int = 10
    """Seeds, from 0 on, of runs with one thread."""
    two_threads: int = 5
    """The same with two."""
    out: Path = Path("runs/robustness")
    check: Path | None = None
    """A finished run of the recipe, which alone is looked at."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """A recipe's thresholds.yaml: what every run of it must reach."""

    steps: int | None = None
    """Only the first steps of the tokenizer's training are run; null for the whole recipe."""
    at_least: dict[str, float] = field(default_factory=dict)
    at_most: dict[str, float] = field(default_factory=dict)

    def missed(self, numbers: dict[str, float]) -> list[str]:
        """In words, what the numbers of a run do not reach."""
        low = [
            f"{name} {numbers[name]:.4g} < {limit}"
            for name, limit in self.at_least.items()
            if not numbers[name] >= limit
        ]
        high = [
            f"{name} {numbers[name]:.4g} > {limit}"
            for name, limit in self.at_most.items()
            if not numbers[name] <= limit
        ]
        return low + high


def thresholds(recipe: str) -> Thresholds:
    """Those of configs/RECIPE."""
    return load_config(Thresholds, Path("configs") / recipe / "thresholds.yaml")


def run_numbers(run_dir: Path) -> dict[str, float]:
    """What a whole run came to: the tokenizer's last line, its codes and its scores."""
    found = tokenizer_numbers(read_metrics(run_dir / "tokenizer")[-1])
    manifest = read_manifest(run_dir / "codes")
    found |= {"codes used": manifest["used"], "perplexity": manifest["perplexity"]}
    for row in read_scores(run_dir / "samples"):
        for name, metric in row.metrics.items():
            if metric.value is not None:
                found[f"{name}: {row.name}"] = metric.value
    return found


def tokenizer_numbers(line: dict[str, float]) -> dict[str, float]:
    """Those of a line of metrics that thresholds may name."""
    return {name: line[key] for key, name in NAMES.items() if key in line}


def one_run(
    recipe: str, seed: int, threads: int, steps: int | None, root: Path
) -> dict[str, float]:
    """The numbers of a run, made in a process of its own unless it is there already."""
    folder = root / recipe / f"threads-{threads}-seed-{seed}"
    result = folder / "numbers.json"
    if not result.exists():
        minutes = made(recipe, seed, threads, steps, folder)
        write_text(result, json.dumps({"minutes": minutes}) + "\n")
    if steps is None:
        numbers = run_numbers(folder)
    else:
        numbers = tokenizer_numbers(json.loads((folder / "line.json").read_text()))
    return numbers | {"minutes": json.loads(result.read_text())["minutes"]}


def made(recipe: str, seed: int, threads: int, steps: int | None, folder: Path) -> float:
    """Makes a run in a process of its own; returns the minutes that it took."""
    own_configs(recipe, folder)
    if steps is None:
        seeds = [
            f"{verb}.seed={seed}" for verb in SEEDED if (folder / f"configs/{verb}.yaml").exists()
        ]
        command = ["-m", "pipelines", "run", f"{folder}/configs", *seeds]
        command.append("allow_failed=true")  # a collapse is counted, too
    else:
        config = f"{folder}/configs/train-tokenizer.yaml"
        command = ["-m", "benchmarks.first_steps", config, str(steps), f"{folder}/line.json"]
        command.append(f"seed={seed}")
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


def own_configs(recipe: str, folder: Path) -> None:
    """The recipe's files with the paths of a run of its own."""
    for path in (Path("configs") / recipe).glob("*.yaml"):
        if path.name != "thresholds.yaml":
            text = path.read_text().replace(f"runs/{recipe}/", f"{folder}/")
            write_text(folder / "configs" / path.name, text)


def runs(
    recipe: str, steps: int | None, config: RobustnessConfig
) -> Iterator[tuple[int, list[dict[str, float]]]]:
    """The number of threads and all its runs' numbers, first one, then two."""
    for threads, seeds in ((1, config.one_thread), (2, config.two_threads)):
        with ThreadPoolExecutor(max((os.cpu_count() or 1) // threads, 1)) as pool:
            every = pool.map(
                lambda seed, threads=threads: one_run(recipe, seed, threads, steps, config.out),
                range(seeds),
            )
            yield threads, list(every)


def table(threads: int, every: list[dict[str, float]], asked: Thresholds) -> list[list[str]]:
    """A row for each number: worst, median and best, and how many runs reach what is asked."""
    rows = []
    told = {*NAMES.values(), *asked.at_least, *asked.at_most}
    for name in [name for name in every[0] if name in told]:
        values = sorted(numbers[name] for numbers in every)
        limit, good, sign = "", len(values), ""
        if name in asked.at_least:
            sign, limit = ">=", f"{asked.at_least[name]:.4g}"
            good = sum(value >= asked.at_least[name] for value in values)
        if name in asked.at_most:
            sign, limit = "<=", f"{asked.at_most[name]:.4g}"
            good = sum(value <= asked.at_most[name] for value in values)
            values.reverse()
        if name == "mel distance" and not sign:
            values.reverse()
        three = [f"{value:.4g}" for value in (values[0], median(values), values[-1])]
        passed = f"{good} of {len(values)}" if sign else ""
        rows.append([str(threads), name, *three, f"{sign} {limit}".strip(), passed])
    return rows


HEADER = ["threads", "number", "worst", "median", "best", "asked", "reached by"]


def main(recipe: str, config: RobustnessConfig) -> str | None:
    """Runs and prints the table; returns what was missed, in words."""
    asked = thresholds(recipe)
    if config.check is not None:
        numbers = run_numbers(config.check)
        missed = asked.missed(numbers)
        said = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        print(f"{config.check}: {'; '.join(missed) or 'good'} ({said})")
        return "; ".join(missed) or None
    every = dict(runs(recipe, asked.steps, config))
    rows = [
        row for threads, found in every.items() if found for row in table(threads, found, asked)
    ]
    report(f"robustness-{recipe}", HEADER, rows, every)
    missed = [
        word for found in every.values() for numbers in found for word in asked.missed(numbers)
    ]
    return "; ".join(missed) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], load_config(RobustnessConfig, None, sys.argv[2:])))
