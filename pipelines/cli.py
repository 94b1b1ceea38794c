"""simvq: the verbs. `simvq VERB RECIPE-OR-FILE [key=value ...]`; the same command again resumes."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.extras import MissingExtraError, named_extras
from common.findings import FailedRunError
from common.parent import CHILD, exit_with_parent
from pipelines.arguments import VERBS, help_of, parser
from pipelines.experiment import read_experiment
from pipelines.launch import LAUNCHED, end, launch
from pipelines.recipe_list import recipes


class UnexpectedError(Exception):
    """An error that is no mistake of the user's. The message says where its traceback is."""


def sentence(error: Exception) -> str:
    """What the system says of a file with the file's name, or what the error says."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return str(error)


@contextlib.contextmanager
def kept_traceback(folder: Path) -> Iterator[None]:
    """Turns unexpected errors into UnexpectedError, traceback in folder/error.txt; a full GPU gives ValueError."""
    try:
        yield
    except (ValueError, OSError, FailedRunError, MissingExtraError, UnexpectedError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise ValueError(
                "the GPU has too little memory: lower batch_size, or set accumulation=2 or checkpointing=true in trainings"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        raise UnexpectedError(
            f"{type(error).__name__}: {first} (the traceback is in {folder / 'error.txt'}; run the same command again to resume)"
        ) from None


def run_section(section: str, config: Any) -> str:
    """Makes what a section describes, and returns what there is to print; a traceback is kept in its folder."""
    with kept_traceback(output_folder(config)):
        return call_verb(section, config)


def output_folder(config: Any) -> Path:
    """Where a section's results go."""
    folder: Path = config.run_dir if hasattr(config, "run_dir") else config.out
    return folder


def call_verb(section: str, config: Any) -> str:
    """Calls the section's verb."""
    with stopped_at_once(), named_extras():  # torch and transformers: not before they are needed
        from pipelines import verbs
        from pipelines.checks import check_folders

    check_folders(config)
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
    with stopped_at_once():
        from common.config import load_config
        from pipelines.compare.config import CompareConfig
        from pipelines.verbs import compare
    config = load_config(CompareConfig, path, overrides)
    with kept_traceback(config.out):
        return compare(config)


def profile(verb: str, path: Path, overrides: Sequence[str]) -> str:
    """Where the time of a verb's steps goes, as a table."""
    with stopped_at_once():
        from pipelines.profile import check_verb, profile, profile_table
    check_verb(verb)
    return profile_table(profile(read_experiment(path, overrides).config(VERBS[verb][0])))


def examine(place: Path | None, latents: Path | None, codebook: Path | None) -> str:
    """What doctor says of a folder, or of two arrays."""
    with stopped_at_once():
        from pipelines.doctor import arrays_report, doctor
    if latents is not None and codebook is not None:
        return arrays_report(latents, codebook)
    if place is None or latents is not None or codebook is not None:
        raise ValueError("give a folder, or both --latents and --codebook")
    return doctor(place)


def run(path: Path, overrides: Sequence[str]) -> None:
    """Makes every section that the file has, in order; what is done is skipped.

    Sections, output folders and data are checked before the first section starts. An error names the verb and the
    file. The summary of finished trainings is printed last.
    """
    with stopped_at_once():
        experiment = read_experiment(path, overrides)
        from pipelines.checks import check_before

        check_before(experiment.configs)
    for section, config in experiment.configs.items():
        warn_of_precision(section, config)
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
        say(run_section(section, config))
    except (ValueError, OSError) as error:
        raise ValueError(f"{verb} ({path}, section {section}): {sentence(error)}") from None
    except (FailedRunError, MissingExtraError, UnexpectedError) as error:
        raise type(error)(f"{verb} ({path}, section {section}): {error}") from None
    from pipelines.verbs import summaries

    return summaries(config)


@contextlib.contextmanager
def stopped_at_once() -> Iterator[None]:
    """Inside, Ctrl-C ends the process: an exception in the middle of torch's import ends in an abort or a traceback."""

    def stop(*_: object) -> None:
        print("simvq: stopped; run the same command again to resume", file=sys.stderr, flush=True)
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


def warn_of_precision(section: str, config: Any) -> None:
    """A line on a training in a precision that this processor is slow in."""
    from common.precision import is_slow
    from common.processes import processes

    precision = getattr(config, "precision", "fp32")
    if is_slow(precision, processes().device):
        say(
            f"WARNING: {section}.precision={precision} is many times slower than fp32 on this processor, which has no "
            f"instructions for it: set {section}.precision=fp32"
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
            with stopped_at_once():
                from pipelines.new.command import new
            say(new(args.data, args.options))
        case "recipes":
            print(recipes())
        case "push":
            with stopped_at_once():
                from pipelines.publish import push
            say(f"wrote {push(args.pipeline, args.name, args.options)}")
        case "export":
            with stopped_at_once():
                from pipelines.export import export
            say(export(args.pipeline, args.out))
        case "demo":
            with stopped_at_once():
                from pipelines.demo.serve import serve

            serve(args.pipeline, args.options, say)
        case "import-official":
            with stopped_at_once():
                from stage1_tokenizer.import_checkpoint import import_official
            say(f"wrote {import_official(args.checkpoint, args.out)}")
        case verb:
            section = VERBS[verb][0]
            with stopped_at_once():
                config = read_experiment(args.config, args.overrides).config(section)
            warn_of_precision(section, config)
            say(run_section(section, config))


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
        args = parser().parse_args(processes_last(arguments))
        count = getattr(args, "processes", 1)
        if count < 1:
            raise ValueError(f"--processes={count} must be at least 1")
        if count > 1 and LAUNCHED not in os.environ:
            launch(count, arguments)
            return
        with kept_traceback(Path(tempfile.gettempdir()) / f"simvq-{os.getuid()}"), named_extras():
            answer(args)
    except (ValueError, OSError, MissingExtraError) as error:
        end(2, f"simvq {verb}: {sentence(error)}")
    except (FailedRunError, UnexpectedError) as error:
        end(1, f"simvq {verb}: {error}")
    except KeyboardInterrupt:
        end(1, f"simvq {verb}: stopped; run the same command again to resume")
    leave_processes()


def processes_last(words: list[str]) -> list[str]:
    """The words with `--processes N` after all others: argparse takes no key=value after an option."""
    option = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    option.add_argument("--processes", nargs="?", const="")
    known, others = option.parse_known_args(words)
    return others if known.processes is None else [*others, f"--processes={known.processes}"]


def leave_processes() -> None:
    """Ends the process group, where there is one."""
    if "accelerate" not in sys.modules:
        return
    from common.processes import processes

    processes().destroy_process_group()
