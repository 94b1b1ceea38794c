"""The recipes that come with the package, and what was measured of them: `simvq recipes`, `simvq run digits`."""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "configs"


class Facts(NamedTuple):
    """What a recipe needs and gave; docs/results.md says how each number was made."""

    data: str
    hardware: str
    time: str = "time not measured"
    result: str = "result not measured"


FACTS = {
    "digits": Facts(
        "scikit-learn's 8 x 8 digits, embedded",
        "a CPU",
        "about 3 min",
        "PSNR 24.0 dB; 99.0 % of samples carry their label (ten seeds)",
    ),
    "spoken_digits": Facts(
        "16 words spoken by espeak-ng, embedded",
        "a CPU",
        "4 to 5.5 min",
        "STOI 0.764; 94.1 % of samples carry their label (ten seeds)",
    ),
    "mnist": Facts(
        "MNIST, from the Hub; measured on a copy of its pixels",
        "a CPU",
        "40 min",
        "PSNR 26.4 dB; 93.2 % of samples carry their label (three seeds)",
    ),
    "cifar10_cpu": Facts(
        "CIFAR-10, from the Hub; measured on a copy as JPEG",
        "a CPU",
        "20 + 21 min",
        "PSNR 26.23 dB; 14.7 % of samples carry their label",
    ),
    "cifar10": Facts(
        "CIFAR-10, from the Hub; measured on a copy as JPEG",
        "one GPU",
        "tokenizer 1 min 44 s",
        "PSNR 27.24 dB; 73.0 % of samples carry their label",
    ),
    "fsdd": Facts(
        "Free Spoken Digit Dataset, from the Hub; measured on a copy that names speakers",
        "a CPU",
        "one hour",
        "STOI 0.834; 96.3 % of samples carry their label (three seeds)",
    ),
    "fsdd_text": Facts(
        "Free Spoken Digit Dataset, by text",
        "a CPU",
        "20 min, over the tokenizer of fsdd",
        "95.7 % of samples carry their label",
    ),
    "librispeech_cpu": Facts(
        "an excerpt of LibriSpeech, from the Hub; measured on another",
        "a CPU",
        "80 + 20 min",
        "STOI 0.796; 808 bits per second",
    ),
    "librispeech": Facts("100 hours of LibriSpeech, from the Hub", "one GPU"),
    "smoke": Facts("scikit-learn's digits", "a CPU", "seconds", "shows only that everything runs"),
}
"""The facts of each recipe, the quick ones first."""


def config_path(text: str) -> Path:
    """The file that a command names: of this path, or the recipe of this name, such as `digits`."""
    path, recipe = Path(text), FOLDER / f"{text}.yaml"
    return recipe if not path.is_file() and recipe.is_file() else path


def recipes() -> str:
    """All recipes, with what was measured of each."""
    lines = [
        "simvq run NAME, in any folder: data, hardware, time, and the result where it was measured.",
        "",
    ]
    for name, (data, hardware, time, result) in FACTS.items():
        lines += [f"{name:<17}{data}", f"{'':<17}{hardware}, {time}: {result}"]
    studies = sorted(path.stem for path in (FOLDER / "compare").glob("*.yaml"))
    lines += ["", "simvq compare NAME: " + ", ".join(f"compare/{name}" for name in studies)]
    return "\n".join(
        [*lines, f"The files are in {FOLDER}; docs/results.md says how each number was made."]
    )
