"""What `simvq` can be asked for: the verbs, their arguments and their help."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.help import class_help, file_help, section_help
from pipelines.recipe_list import config_path

DESCRIPTION = (
    "simvq: the verbs. `simvq VERB RECIPE-OR-FILE [key=value ...]`; the same command again resumes."
)
VERBS = {
    "train-tokenizer": ("tokenizer", "train a tokenizer on a data set"),
    "encode": ("codes", "write the codes of a data set"),
    "train-classifier": (
        "classifier",
        "train the classifiers that the scores use",
    ),
    "train-prior": ("prior", "train a prior over codes"),
    "sample": ("samples", "sample new items"),
    "score": ("score", "score reconstructions and samples"),
}
"""The verbs that make one section of an experiment: the section, and a line of help."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="simvq", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=version("simvq-pipeline"))
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    lines = {verb: line for verb, (_, line) in VERBS.items()}
    lines["run"] = "do all of it in order, skipping what is done"
    lines["compare"] = "send several quantizers through both stages"
    for verb, line in lines.items():
        one = verbs.add_parser(verb, help=line)
        add_experiment(one)
        if verb != "compare":  # which starts a process for each of its rows
            one.add_argument(
                "--processes",
                type=int,
                default=1,
                help="number of processes on this machine (default: 1)",
            )
    profiled = verbs.add_parser(
        "profile",
        help="show how long each part of a training step takes; the run folder is not changed",
    )
    profiled.add_argument("profiled", metavar="VERB", help="train-tokenizer or train-prior")
    add_experiment(profiled)
    add_tools(verbs)
    return top


def add_experiment(verb: argparse.ArgumentParser) -> None:
    """Adds the arguments that name an experiment, and those that change its keys."""
    verb.add_argument("config", type=config_path, help="a file, or the name of a recipe")
    verb.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="prior.steps=100"
    )


def add_tools(verbs: Any) -> None:
    """Adds the verbs that read no experiment to those of the command line."""
    recipe = verbs.add_parser("new", help="write a recipe for a data set, on standard output")
    recipe.add_argument("data", help="a folder, a Parquet file, or a name on the Hub")
    recipe.add_argument(
        "options", nargs="*", default=[], metavar="minutes=30", help="what training may take"
    )
    pushed = verbs.add_parser("push", help="publish a pipeline on the Hub, with a model card")
    exported = verbs.add_parser("export", help="write a pipeline as ONNX, to run without torch")
    for one in (pushed, exported):
        one.add_argument("pipeline", type=Path, help="prior/pipeline of a run")
    pushed.add_argument("name", metavar="user/name")
    pushed.add_argument("options", nargs="*", default=[], metavar="license=cc-by-4.0")
    exported.add_argument("out", type=Path, help="the folder to write")
    examined = verbs.add_parser("doctor", help="say what is wrong with a codebook, and why")
    examined.add_argument("place", type=Path, nargs="?", help="a run, a model or a folder of codes")
    examined.add_argument("--latents", type=Path, help="a .npy file, (n, d) or (b, n, d)")
    examined.add_argument("--codebook", type=Path, help="a .npy file, (k, d)")
    verbs.add_parser("recipes", help="list the recipes that come with the package")
    shown = verbs.add_parser("demo", help="play with a pipeline on a web page of this machine")
    shown.add_argument("pipeline", help="a folder `pipeline/`, or its name on the Hub")
    shown.add_argument(
        "options", nargs="*", default=[], help="compare=TOKENIZER results=FOLDER port=7860"
    )
    official = verbs.add_parser(
        "import-official", help="convert a checkpoint of the paper's authors"
    )
    official.add_argument("checkpoint", type=Path, help="a Lightning checkpoint (.ckpt)")
    official.add_argument("out", type=Path, help="the folder to write, for from_pretrained")


def help_of(arguments: Sequence[str]) -> str | None:
    """What `simvq VERB --help [CONFIG] [key=value ...]` prints; None for other commands."""
    verb, *rest = arguments or [""]
    if not {"-h", "--help"} & set(rest) or verb not in (*VERBS, "run", "compare"):
        return None
    rest = [argument for argument in rest if argument not in ("-h", "--help")]
    usage = f"usage: simvq {verb} CONFIG [key=value ...]"
    if verb == "compare":
        return f"{usage}\n\n" + class_help(
            "CompareConfig", Path(__file__).parent / "compare" / "config.py"
        )
    usage += " [--processes N]\n\n"
    if verb in VERBS:
        return usage + section_help(VERBS[verb][0], rest)
    sections = [f"  {section:<11}simvq {verb:<17}{line}" for verb, (section, line) in VERBS.items()]
    return usage + "\n".join(
        [file_help(rest), "", "Sections, and the verb that makes each:", *sections]
    )
