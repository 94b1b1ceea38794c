"""simvq: the verbs. `simvq VERB configs/EXPERIMENT.yaml [key=value ...]`; the same command again resumes."""

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.findings import FailedRunError
from common.parent import CHILD, exit_with_parent
from pipelines.experiment import read_experiment
from pipelines.help import class_help, file_help, section_help
from pipelines.launch import LAUNCHED, end, launch

VERBS = {
    "train-tokenizer": ("tokenizer", "train a tokenizer on a data set"),
    "encode": ("codes", "write the codes of a data set"),
    "train-classifier": (
        "classifier",
        "train the classifier that scores where Inception is not at hand",
    ),
    "train-prior": ("prior", "train a prior over codes"),
    "sample": ("samples", "sample new items"),
    "score": ("score", "score reconstructions and samples"),
}
"""The verbs that make one section of an experiment: the section, and a line of help."""


class UnexpectedError(Exception):
    """An error that is no mistake of the user's. The message says where its traceback is."""


def sentence(error: ValueError | OSError) -> str:
    """What the system says of a file with the file's name, or what the error says."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return str(error)


def make(section: str, config: Any) -> str:
    """Makes what a section describes; returns what there is to print.

    The traceback of an error that is no mistake of the user's stays in the section's folder as error.txt.
    """
    try:
        return made(section, config)
    except (ValueError, OSError, FailedRunError):
        raise
    except Exception as error:
        folder = output_folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        raise UnexpectedError(
            f"{type(error).__name__}: {first} (the traceback is in {folder / 'error.txt'}; the same command goes on)"
        ) from None


def output_folder(config: Any) -> Path:
    """Where a section's results go."""
    return next(
        getattr(config, key) for key in ("run_dir", "folder", "out") if hasattr(config, key)
    )


def made(section: str, config: Any) -> str:
    """Calls the section's verb."""
    with stopped_at_once():  # torch and transformers: not before they are needed
        from pipelines import verbs

    match section:
        case "tokenizer":
            return verbs.train_tokenizer(config)
        case "codes":
            return verbs.encode(config)
        case "classifier":
            return verbs.train_classifier(config)
        case "prior":
            return verbs.train_prior(config)
        case "samples":
            return verbs.sample(config)
        case _:
            return verbs.score(config)


def compare(path: Path, overrides: Sequence[str]) -> str:
    """Runs a study; returns its table."""
    from common.config import load_config
    from pipelines.compare.config import CompareConfig
    from pipelines.verbs import compare

    return compare(load_config(CompareConfig, path, overrides))


def profile(verb: str, path: Path, overrides: Sequence[str]) -> str:
    """Where the time of a verb's steps goes, as a table."""
    from pipelines.profile import check_verb, profile, profile_table

    check_verb(verb)
    return profile_table(profile(read_experiment(path, overrides).config(VERBS[verb][0])))


def examine(place: Path | None, latents: Path | None, codebook: Path | None) -> str:
    """What doctor says of a folder, or of two arrays."""
    from pipelines.doctor import arrays_report, doctor

    if latents is not None and codebook is not None:
        return arrays_report(latents, codebook)
    if place is None or latents is not None or codebook is not None:
        raise ValueError("give a folder, or both --latents and --codebook")
    return doctor(place)


def run(path: Path, overrides: Sequence[str]) -> None:
    """Makes every section that the file has, in order; what is done is skipped.

    All of them, the folders that they write and the data are checked before the first starts. An error names the verb and the file, and the
    summary of the trainings that are done comes last.
    """
    with stopped_at_once():
        experiment = read_experiment(path, overrides)
        from pipelines.checks import check_before

        check_before(experiment.configs)
    summary: list[str] = []
    try:
        for verb, (section, _) in VERBS.items():
            if section in experiment.configs:
                summary += run_one(verb, section, experiment.configs[section], path)
    finally:
        if summary:
            say("\n".join(["== summary", *summary]))


def run_one(verb: str, section: str, config: Any, path: Path) -> list[str]:
    """One verb of `run`, whose errors name it; returns the lines of its summary."""
    say(f"== {verb} {path}")
    try:
        say(make(section, config))
    except (ValueError, OSError) as error:
        raise ValueError(f"{verb} ({path}, section {section}): {sentence(error)}") from None
    except FailedRunError as error:
        raise FailedRunError(f"{verb} ({path}, section {section}): {error}") from None
    from pipelines.verbs import summaries

    return summaries(config)


@contextlib.contextmanager
def stopped_at_once() -> Iterator[None]:
    """Inside, Ctrl-C ends the process: an exception in the middle of torch's import ends in an abort or a traceback."""

    def stop(*_: object) -> None:
        print("simvq: stopped; the same command goes on", file=sys.stderr, flush=True)
        os._exit(1)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def say(text: str) -> None:
    """Prints, on the main process alone."""
    from common.processes import processes

    processes().print(text, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="simvq", description=__doc__)
    top.add_argument("--version", action="version", version=version("simvq-pipeline"))
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    lines = {verb: line for verb, (_, line) in VERBS.items()}
    lines["run"] = "do all of it in order, skipping what is done"
    lines["compare"] = "send several quantizers through both stages"
    for verb, line in lines.items():
        one = verbs.add_parser(verb, help=line, add_help=False)
        one.add_argument("-h", "--help", action="store_true", help="show the file's keys")
        one.add_argument("config", type=Path, help="a file of configs/")
        one.add_argument("overrides", nargs="*", metavar="key=value", help="prior.steps=100")
        one.add_argument("--processes", type=int, default=1, help="of this machine; one by default")
    profiled = verbs.add_parser(
        "profile",
        help="show where the time of a training's steps goes; its run folder stays as it is",
    )
    profiled.add_argument("profiled", metavar="VERB", help="train-tokenizer or train-prior")
    profiled.add_argument("config", type=Path, help="a file of configs/")
    profiled.add_argument("overrides", nargs="*", metavar="key=value", help="prior.batch_size=8")
    recipe = verbs.add_parser("new", help="write a recipe for a data set, on standard output")
    recipe.add_argument("data", help="a folder, a Parquet file, or a name on the Hub")
    recipe.add_argument("options", nargs="*", metavar="minutes=30", help="what training may take")
    examined = verbs.add_parser("doctor", help="say what is wrong with a codebook, and why")
    examined.add_argument(
        "place", type=Path, nargs="?", help="a run's folder, a model or a folder of codes"
    )
    examined.add_argument(
        "--latents", type=Path, help="a .npy file, (n, d) or (b, n, d), of any project"
    )
    examined.add_argument("--codebook", type=Path, help="a .npy file, (k, d)")
    official = verbs.add_parser(
        "import-official", help="convert a checkpoint of the paper's authors"
    )
    official.add_argument("checkpoint", type=Path, help="a Lightning checkpoint (.ckpt)")
    official.add_argument("out", type=Path, help="the folder to write, for from_pretrained")
    return top


def help_of(arguments: Sequence[str]) -> str | None:
    """What `simvq VERB --help [CONFIG] [key=value ...]` prints; None for other commands."""
    verb, *rest = arguments or [""]
    if not {"-h", "--help"} & set(rest) or verb not in (*VERBS, "run", "compare"):
        return None
    rest = [argument for argument in rest if argument not in ("-h", "--help")]
    usage = f"usage: simvq {verb} CONFIG [key=value ...]\n\n"
    if verb == "compare":
        return usage + class_help("CompareConfig", Path(__file__).parent / "compare" / "config.py")
    if verb in VERBS:
        return usage + section_help(VERBS[verb][0], rest)
    sections = [f"  {section:<11}simvq {verb:<17}{line}" for verb, (section, line) in VERBS.items()]
    return usage + "\n".join(
        [file_help(rest), "", "Sections, and the verb that makes each:", *sections]
    )


def answer(args: argparse.Namespace) -> None:
    """Runs a command."""
    match args.verb:
        case "run":
            run(args.config, args.overrides)
        case "compare":
            say(compare(args.config, args.overrides))
        case "profile":
            say(profile(args.profiled, args.config, args.overrides))
        case "doctor":
            say(examine(args.place, args.latents, args.codebook))
        case "new":
            from pipelines.new import new

            say(new(args.data, args.options))
        case "import-official":
            from stage1_tokenizer.import_checkpoint import import_official

            say(f"wrote {import_official(args.checkpoint, args.out)}")
        case verb:
            section = VERBS[verb][0]
            with stopped_at_once():
                config = read_experiment(args.config, args.overrides).config(section)
            say(make(section, config))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command; a mistake of the user's gives one sentence and exit code 2, a training that failed its
    findings and exit code 1.
    """
    # for the user's own quantizer: `python -m` finds modules in the current folder by itself, `simvq` does not
    sys.path.append("")
    if {CHILD, "LOCAL_RANK"} & os.environ.keys():  # of compare, or of torchrun
        exit_with_parent()
    arguments = sys.argv[1:] if argv is None else [*argv]
    verb = arguments[0] if arguments else ""
    try:
        if (text := help_of(arguments)) is not None:
            print(text)
            sys.exit(0)
        args = parser().parse_args(arguments)
        if getattr(args, "processes", 1) > 1 and LAUNCHED not in os.environ:
            launch(args.processes, arguments)
        else:
            answer(args)
    except (ValueError, OSError) as error:
        end(2, f"simvq {verb}: {sentence(error)}")
    except (FailedRunError, UnexpectedError) as error:
        end(1, f"simvq {verb}: {error}")
    except KeyboardInterrupt:
        end(1, f"simvq {verb}: stopped; the same command goes on")
    leave_processes()


def leave_processes() -> None:
    """Ends the process group, where there is one."""
    from common.processes import processes

    processes().destroy_process_group()
