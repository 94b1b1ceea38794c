"""The quickstart's tables in README.md and docs/results.md, from docs/robustness/*.json: `python docs/studies/quickstart_tables.py`."""

import json
from statistics import median

from page import HERE, markdown

RUNS = HERE.parent / "robustness"
THREADS = "1"
"""The runs with two threads are of seeds that are among those with one, and differ from them by rounding alone."""
FIRST = "FD({}-classifier) vs train"
SHARE = "share of the way({}-classifier)"
DIGITS = {
    "PSNR (dB)": ".1f",
    "codes used": "%",
    "code perplexity": ".1f",
    "FD({}-classifier) vs held-out": ".3f",
    FIRST: "#.3g",
    "label accuracy": "%",
    SHARE: ".2f",
}
SPOKEN_DIGITS = {
    "codes used": "%",
    "mel distance (7 scales)": ".2f",
    "STOI": ".3f",
    "label accuracy (classifier)": "%",
    "label accuracy (pocketsphinx)": "%",
    FIRST: "#.3g",
    "held-out bits per second of audio": ".0f",
    SHARE: ".2f",
}
"""Metrics and how each is written; {} is the data set."""
REAL = ("held-out vs train", "ground truth")
"""Rows of the scores that are of real items: of images the first, of speech either."""


def cell(values: list[float], form: str) -> str:
    """The median and the range."""
    if not values:
        return ""
    scale, unit, digits = (100, " %", ".1f") if form == "%" else (1, "", form)
    middle, low, high = (
        f"{scale * value:{digits}}" for value in (median(values), min(values), max(values))
    )
    return f"{middle}{unit} [{low} to {high}]"


def table(name: str, metrics: dict[str, str]) -> list[str]:
    """The lines of one data set's table."""
    runs = json.loads((RUNS / f"{name}.json").read_text())[THREADS]
    entries = []
    for pattern, form in metrics.items():
        metric, cells = pattern.format(name), []
        for sides in (REAL, ("reconstruction",), ("samples",)):
            keys = [f"{metric}: {side}" for side in sides]
            cells.append(cell([run[key] for run in runs for key in keys if key in run], form))
        entries.append([metric, *cells])
    header = [name.replace("_", " "), "real", "reconstruction", "samples"]
    return markdown(header, entries).splitlines()


if __name__ == "__main__":
    print("\n".join([*table("digits", DIGITS), "", *table("spoken_digits", SPOKEN_DIGITS)]))
