"""An experiment: one file that says how a tokenizer, its codes, a prior, samples and their scores are made.

    run_dir: runs/digits        # each section's results are in the folder of its name in it
    modality: images
    data: {source: digits}
    tokenizer: {steps: 800}     # a section has the keys of one dataclass below
    codes:                      # empty: all its keys have their defaults

Keys that follow from the rest need not be written: a section's modality, its data, and the paths of what earlier
sections made. A section may still set one of them: `tokenizer: {run_dir: runs/fsdd/tokenizer}`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from common.config import build, read_values

SECTIONS = ("tokenizer", "codes", "classifier", "prior", "samples", "score")
"""In the order in which they are made."""
TOP = ("run_dir", "modality", "data", "allow_failed")
"""The keys beside the sections; allow_failed is for both trainings."""


def image_configs() -> dict[str, type[Any]]:
    """The dataclass of each section of a file that says `modality: images`, or nothing, and of its data."""
    from pipelines.evaluation.config import ScoreImagesConfig, TrainImageClassifierConfig
    from pipelines.sample_config import SampleImagesConfig
    from stage1_tokenizer.images.data import ImageDataConfig
    from stage1_tokenizer.images.encode import EncodeImagesConfig
    from stage1_tokenizer.images.training import TrainImageTokenizerConfig
    from stage2_prior.train_config import TrainPriorConfig

    return {
        "data": ImageDataConfig,
        "tokenizer": TrainImageTokenizerConfig,
        "codes": EncodeImagesConfig,
        "classifier": TrainImageClassifierConfig,
        "prior": TrainPriorConfig,
        "samples": SampleImagesConfig,
        "score": ScoreImagesConfig,
    }


def speech_configs() -> dict[str, type[Any]]:
    """The same for `modality: speech`."""
    from pipelines.evaluation.config import ScoreSpeechConfig, TrainSpeechClassifierConfig
    from pipelines.sample_config import SampleSpeechConfig
    from stage1_tokenizer.speech.data import SpeechDataConfig
    from stage1_tokenizer.speech.encode import EncodeSpeechConfig
    from stage1_tokenizer.speech.training import TrainSpeechTokenizerConfig
    from stage2_prior.train_config import TrainPriorConfig

    return {
        "data": SpeechDataConfig,
        "tokenizer": TrainSpeechTokenizerConfig,
        "codes": EncodeSpeechConfig,
        "classifier": TrainSpeechClassifierConfig,
        "prior": TrainPriorConfig,
        "samples": SampleSpeechConfig,
        "score": ScoreSpeechConfig,
    }


CONFIGS = {"images": image_configs, "speech": speech_configs}
"""By modality."""


@dataclass(frozen=True)
class Experiment:
    """A file whose every key is checked."""

    path: Path
    configs: dict[str, Any]
    """The config of each section that the file has, in the order in which they are made."""

    def config(self, section: str) -> Any:
        """The config of a section. Raises ValueError where the file has no such section."""
        if section not in self.configs:
            raise ValueError(
                f"{self.path} has no section {section}: it has {', '.join(self.configs)}"
            )
        return self.configs[section]


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a file, with overrides such as `prior.steps=100`.

    Raises ValueError, in one sentence with the file and the key, for a key that does not exist and for a value
    that it can't have, in any section.
    """
    there = read_values(path)
    for override in overrides:
        section = override.split("=")[0].split(".")[0]
        if section in SECTIONS and section not in there:
            raise ValueError(f"override {override!r}: {path} has no section {section}")
    values = read_values(path, overrides)
    for section in ("data", *SECTIONS):
        if values.get(section) is None is not there.get(section):
            raise ValueError(f"{path}: {section} is emptied by an override: set {section}.KEY")
    classes = config_classes(values, path)
    check_top(values, classes, path)
    run_dir = Path(values["run_dir"])
    sections = {name: values[name] or {} for name in SECTIONS if name in values}
    data = values.get("data") or {}
    checked(classes["data"], data, f"{path}, data", "data.")
    configs = {}
    for name, (given, defaults) in with_default_paths(run_dir, sections).items():
        schema = classes[name]
        known = {field.name for field in fields(schema)}
        if "data" in known:
            own = given.get("data") or {}
            if not isinstance(own, Mapping):
                raise ValueError(
                    f"{path}, section {name}: {name}.data={own!r} must be a group of keys: set {name}.data.KEY"
                )
            given = given | {"data": data | {**own}}
        defaults |= {key: values[key] for key in ("modality", "allow_failed") if key in values}
        whole = {key: value for key, value in defaults.items() if key in known} | given
        configs[name] = checked(schema, whole, f"{path}, section {name}", f"{name}.")
    return Experiment(path, configs)


def check_top(values: Mapping[str, Any], classes: Mapping[str, type[Any]], path: Path) -> None:
    """Raises ValueError for a key at the top of a file that does not exist, and without a run_dir."""
    known = (*TOP, *SECTIONS)
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            of_sections = [
                f"{name}.{key}"
                for name in SECTIONS
                if name in values and key in {field.name for field in fields(classes[name])}
            ]
            meant = " or ".join(of_sections or close)
            raise ValueError(
                f"{path}: there is no section or key {key!r}"
                + (f", did you mean {meant}?" if meant else "")
                + f" There are {', '.join(known)}"
            )
    if not isinstance(values.get("run_dir"), str) or not values["run_dir"]:
        raise ValueError(f"{path}: run_dir={values.get('run_dir')!r} must be a path: set run_dir")
    for key in ("data", *SECTIONS):
        if not isinstance(values.get(key), Mapping | None):
            raise ValueError(
                f"{path}: {key}={values[key]!r} must be a group of keys: set {key}.KEY"
            )


def config_classes(values: Mapping[str, Any], path: Path) -> dict[str, type[Any]]:
    """The dataclasses for the modality that a file names, images where it names none. Raises ValueError."""
    modality = values.get("modality", "images")
    if not isinstance(modality, str) or modality not in CONFIGS:
        raise ValueError(
            f"{path}: modality={modality} is not one of {', '.join(CONFIGS)}: set modality"
        )
    return CONFIGS[modality]()


def checked(schema: type[Any], values: Mapping[str, Any], where: str, at: str) -> Any:
    """The config of a section; what is wrong with it is told with its place."""
    try:
        return build(schema, values, at)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def with_default_paths(
    run_dir: Path, sections: Mapping[str, dict[str, Any]]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Each section, and its keys that have defaults from where the others are made."""

    def place(section: str, key: str) -> Path:
        return Path(str(sections.get(section, {}).get(key, run_dir / section)))

    def made(section: str, result: Path) -> Path | None:
        return result if section in sections else None

    tokenizer, prior = place("tokenizer", "run_dir"), place("prior", "run_dir")
    classifier = place("classifier", "run_dir")
    codes, samples = place("codes", "out"), place("samples", "out")
    model = tokenizer / "model"
    defaults: dict[str, dict[str, Any]] = {
        "tokenizer": {"run_dir": tokenizer},
        "codes": {"tokenizer": model, "out": codes},
        "classifier": {"run_dir": classifier},
        "prior": {"run_dir": prior, "codes": codes, "tokenizer": model},
        "samples": {
            "pipeline": prior / "pipeline",
            "out": samples,
            "classifier": made("classifier", classifier / "model"),
        },
        "score": {
            "out": run_dir / "score",
            "tokenizer": model,
            "samples": made("samples", samples),
            "codes": made("codes", codes),
            "classifier": made("classifier", classifier / "model"),
            "tokenizer_run": made("tokenizer", tokenizer),
            "prior_run": made("prior", prior),
        },
    }
    return {name: (given, defaults[name]) for name, given in sections.items()}


def saved_config(section: str, path: Path) -> Any:
    """The config that a run of a section left in its folder."""
    from stage1_tokenizer.config import load_saved_config

    return load_saved_config(config_classes(read_values(path), path)[section], path)
