"""simvq: the verbs. `simvq VERB CONFIG [key=value ...]`; the same command again resumes."""

import argparse
import dataclasses
import importlib
import inspect
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from common.findings import FailedRunError


@dataclass(frozen=True)
class Verb:
    """A verb that takes a config. Its module is imported when it is called: --help answers at once."""

    help: str
    module: str
    config: str
    run: str
    """A function of `pipelines.verbs` that takes the config and returns what is printed."""
    speech_config: str | None = None
    """The config of files that say `modality: speech`, where the verb has one."""


VERBS = {
    "train-tokenizer": Verb(
        "train a tokenizer on a data set",
        "stage1_tokenizer.train",
        "TrainImageTokenizerConfig",
        "train_tokenizer",
        "TrainSpeechTokenizerConfig",
    ),
    "encode": Verb(
        "write the codes of a data set",
        "stage1_tokenizer.encode",
        "EncodeImagesConfig",
        "encode",
        "EncodeSpeechConfig",
    ),
    "train-classifier": Verb(
        "train the classifier that scores where Inception is not at hand",
        "pipelines.evaluation.config",
        "TrainImageClassifierConfig",
        "train_classifier",
        "TrainSpeechClassifierConfig",
    ),
    "train-prior": Verb(
        "train a prior over codes",
        "pipelines.prior_file",
        "PriorFile",
        "train_prior",
        "PriorFile",
    ),
    "sample": Verb(
        "draw new samples", "pipelines.sample", "SampleImagesConfig", "sample", "SampleSpeechConfig"
    ),
    "score": Verb(
        "score reconstructions and samples",
        "pipelines.evaluation.config",
        "ScoreImagesConfig",
        "score",
        "ScoreSpeechConfig",
    ),
    "compare": Verb(
        "send several quantizers through both stages",
        "pipelines.compare.config",
        "CompareConfig",
        "compare",
    ),
}
"""In the order in which `simvq run` calls those that have a file in its folder."""


def config_classes(verb: Verb) -> dict[str, type[Any]]:
    """The dataclass of a verb's config for each modality."""
    module = importlib.import_module(verb.module)
    names = {"images": verb.config, "speech": verb.speech_config}
    return {modality: getattr(module, name) for modality, name in names.items() if name}


def config_class(verb: Verb, path: Path, overrides: Sequence[str]) -> type[Any]:
    """The dataclass that a config file is for, by its key `modality`, images where it has none.

    Raises ValueError for another modality than the verb knows.
    """
    from omegaconf import OmegaConf

    given = OmegaConf.merge(
        OmegaConf.load(path) if path.is_file() else {},
        OmegaConf.from_dotlist([o for o in overrides if o.startswith("modality=")]),
    )
    known = config_classes(verb)
    modality = OmegaConf.select(given, "modality", default="images")
    if modality not in known:
        raise ValueError(
            f"{path}: modality={modality} is not one of {', '.join(known)}: set modality"
        )
    return known[modality]


def read_config(verb: Verb, path: Path, overrides: Sequence[str]) -> Any:
    """A verb's config from its file."""
    from common.config import load_config

    config = load_config(config_class(verb, path, overrides), path, overrides)
    return config.config if verb is VERBS["train-prior"] else config


def call(name: str, path: Path, overrides: Sequence[str]) -> str:
    """Runs a verb on a config file; returns what there is to print."""
    return done(VERBS[name], read_config(VERBS[name], path, overrides))


def done(verb: Verb, config: Any) -> str:
    """Runs a verb; returns what there is to print."""
    return getattr(importlib.import_module("pipelines.verbs"), verb.run)(config)


def profile(name: str, path: Path, overrides: Sequence[str]) -> str:
    """Where the time of a verb's steps goes, as a table."""
    from pipelines.profile import check_verb, profile, profile_table

    check_verb(name)
    return profile_table(profile(read_config(VERBS[name], path, overrides)))


def examine(place: Path | None, latents: Path | None, codebook: Path | None) -> str:
    """What doctor says of a folder, or of two arrays."""
    from pipelines.doctor import arrays_report, doctor

    if latents is not None and codebook is not None:
        return arrays_report(latents, codebook)
    if place is None or latents is not None or codebook is not None:
        raise ValueError("give a folder, or both --latents and --codebook")
    return doctor(place)


def run(folder: Path, overrides: Sequence[str]) -> None:
    """Every verb that has a file in the folder, in order; what is done is skipped.

    An override names its verb: `train-prior.steps=100`; `allow_failed=true` is for both trainings. What goes
    wrong is told with the verb and its file, and the summary of the trainings that are done comes last.
    """
    names = [name for name in VERBS if (folder / f"{name}.yaml").is_file()]
    if not names:
        raise ValueError(f"{folder} has none of {', '.join(f'{name}.yaml' for name in VERBS)}")
    for override in overrides:
        if override.split(".")[0] not in names and not override.startswith("allow_failed="):
            raise ValueError(
                f"override {override!r} must begin with one of {', '.join(names)} and a dot"
            )
    summary: list[str] = []
    try:
        for name in names:
            summary += run_one(name, folder / f"{name}.yaml", overrides)
    finally:
        if summary:
            say("\n".join(["== summary", *summary]))


def run_one(name: str, path: Path, overrides: Sequence[str]) -> list[str]:
    """One verb of `run`, whose errors name it; returns the lines of its summary."""
    mine = [o.removeprefix(f"{name}.") for o in overrides if o.startswith(f"{name}.")]
    if name in ("train-tokenizer", "train-prior"):
        mine += [o for o in overrides if o.startswith("allow_failed=")]
    say(f"== {name} {path}")
    try:
        config = read_config(VERBS[name], path, mine)
        say(done(VERBS[name], config))
    except (ValueError, FailedRunError) as error:
        where = name if str(path) in str(error) else f"{name} ({path})"
        raise type(error)(f"{where}: {error}") from None
    except Exception as error:
        error.add_note(f"in {name}, {path}; the same command goes on")
        raise
    return importlib.import_module("pipelines.verbs").summaries(config)


def say(text: str) -> None:
    """Prints, on the main process alone."""
    from common.processes import processes

    processes().print(text, flush=True)


def describe(schemas: Iterable[type[Any]]) -> str:
    """The source of configs and of those they extend or hold: names, types, defaults, meaning."""
    parts = list(dict.fromkeys(schemas))
    for part in parts:  # grows while it is walked
        parts += [b for b in part.__bases__ if dataclasses.is_dataclass(b) and b not in parts]
        for hint in get_type_hints(part).values():
            nested = [h for h in (hint, *get_args(hint)) if dataclasses.is_dataclass(h)]
            parts += [h for h in nested if isinstance(h, type) and h not in parts]
    return "\n".join(inspect.getsource(part) for part in parts)


class ConfigHelp(argparse.Action):
    """--help of a verb: prints its config."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        print(f"{parser.format_help()}\n{describe(config_classes(self.const).values())}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="simvq", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    overrides = {"nargs": "*", "metavar": "key=value", "help": "for example optim.lr=1e-4"}
    for name, verb in VERBS.items():
        one = verbs.add_parser(name, help=verb.help, description=verb.help, add_help=False)
        one.add_argument(
            "-h", "--help", action=ConfigHelp, const=verb, nargs=0, help="show the config's keys"
        )
        one.add_argument("config", type=Path, help="a file of configs/")
        one.add_argument("overrides", **overrides)  # type: ignore[arg-type]
    everything = verbs.add_parser("run", help="do all of it in order, skipping what is done")
    everything.add_argument("folder", type=Path, help="a folder of configs/")
    everything.add_argument("overrides", **overrides)  # type: ignore[arg-type]
    profiled = verbs.add_parser(
        "profile",
        help="show where the time of a training's steps goes; its run folder stays as it is",
    )
    profiled.add_argument("profiled", metavar="VERB", help="train-tokenizer or train-prior")
    profiled.add_argument("config", type=Path, help="the verb's file of configs/")
    profiled.add_argument("overrides", **overrides)  # type: ignore[arg-type]
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


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command; a mistake of the user's is answered with one sentence and exit code 2, a training that
    came to nothing with what is known of it and exit code 1.
    """
    args = parser().parse_args(argv)
    try:
        if args.verb == "run":
            run(args.folder, args.overrides)
        elif args.verb == "profile":
            say(profile(args.profiled, args.config, args.overrides))
        elif args.verb == "doctor":
            say(examine(args.place, args.latents, args.codebook))
        elif args.verb == "import-official":
            from stage1_tokenizer.import_checkpoint import import_official

            say(f"wrote {import_official(args.checkpoint, args.out)}")
        else:
            say(call(args.verb, args.config, args.overrides))
    except ValueError as error:
        print(f"simvq {args.verb}: {error}", file=sys.stderr)
        sys.exit(2)
    except FailedRunError as error:
        sys.exit(f"simvq {args.verb}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"simvq {args.verb}: stopped; the same command goes on")
    leave_processes()


def leave_processes() -> None:
    """Ends the process group, where there is one."""
    from common.processes import processes

    processes().destroy_process_group()
