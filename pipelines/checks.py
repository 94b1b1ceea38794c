"""What `simvq run` looks at before its first step: folders that can be written, data that can be read, sections that fit each other."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from common.files import HASHES, files_in, read_json, sealed_files
from common.init_from import source_folder
from common.runs import ended_early, is_begun, is_finished, refuse_missing
from common.tracking import DONE
from pipelines.cli import output_folder
from pipelines.evaluation.classifier import check_finished
from pipelines.evaluation.images.data import FEWEST_IMAGES
from pipelines.evaluation.statistics_files import read_statistics
from pipelines.generation.named import Named, written_numbers
from stage1_tokenizer.data import ItemDataset
from stage1_tokenizer.images.data import load_images
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips

PARTS: tuple[Literal["tokenizer", "prior"], ...] = ("tokenizer", "prior")
RESULTS = ("model", "best", "pipeline", "checkpoints", "second", "discriminator")
"""Folders that a run makes in its own."""


def check_before(configs: Mapping[str, Any]) -> None:
    """Raises ValueError for what can be known to fail, in one sentence.

    That is a folder that can't be written or has the results of another config, a file, model or tracker that is
    missing, a split that can't be read or has other labels than the training items, and a section that asks for what
    another one, or the data, do not have.
    """
    for config in configs.values():
        check_folders(config)
        refuse_missing(getattr(config, "trackers", ()))
        if getattr(config, "statistics", None) is not None:
            read_statistics(config.statistics)
    for part in PARTS:
        source = configs[part].init_from if part in configs else None
        if source is not None and not is_begun(configs[part].run_dir):
            source_folder(source, part)
    check_shapes(configs)
    check_count(configs)
    check_samples(configs)
    check_results(configs)
    data = next((each.data for each in configs.values() if hasattr(each, "data")), None)
    if data is not None:
        splits = {split: load(data, split) for split in data.splits}
        check_items(configs, splits["train"])


def check_count(configs: Mapping[str, Any]) -> None:
    """Raises ValueError for fewer images than a score takes."""
    samples = configs.get("samples")
    if "score" not in configs or samples is None or samples.modality != "images":
        return
    if samples.count < FEWEST_IMAGES:
        raise ValueError(
            f"samples.count={samples.count}, but a score takes at least {FEWEST_IMAGES} images: set samples.count, or leave "
            "the section score out"
        )


def check_samples(configs: Mapping[str, Any]) -> None:
    """Raises ValueError for samples that ask for what the prior will not learn, and for a missing folder of prompts."""
    samples, prior = configs.get("samples"), configs.get("prior")
    prompts = getattr(samples, "prompts", None)
    if prompts is not None and not prompts.is_dir():
        raise ValueError(f"samples.prompts={prompts} is not a folder: set samples.prompts")
    if samples is None or prior is None or samples.pipeline.parent != prior.run_dir:
        return
    if prior.label_dropout == 0 and prior.condition != "none" and samples.guidance != 1:
        raise ValueError(
            f"samples.guidance={samples.guidance}, but with prior.label_dropout=0 the prior never learns without a condition, "
            "which guidance compares with: set samples.guidance=1, or prior.label_dropout"
        )
    learned = (prior.condition or "label").split("+")
    for kind in ("label", "speaker", "text"):
        given = getattr(samples, f"{kind}s", None)
        if given is not None and kind not in learned:
            raise ValueError(
                f"samples.{kind}s={given}, but prior.condition={prior.condition!r}: leave samples.{kind}s out, or set "
                "prior.condition"
            )
    most = getattr(samples, "max_codes", None)
    if most is not None and prior.max_codes is not None and most > prior.max_codes:
        raise ValueError(
            f"samples.max_codes={most}, but prior.max_codes={prior.max_codes}: set one of them"
        )


def check_results(configs: Mapping[str, Any]) -> None:
    """Raises ValueError for folders with results of another config, and for codes or samples that would be outdated.

    Codes are outdated when their tokenizer is trained further, samples when their prior is.
    """
    made = {"tokenizer": ("codes", "manifest.json"), "prior": ("samples", "sample.json")}
    for part, result in (("tokenizer", "model"), ("prior", "best")):
        if part not in configs:
            continue
        config, (section, file) = configs[part], made[part]
        done = is_finished(config, config.run_dir / result)
        if done or section not in configs or keeps_codes(config):
            continue
        path = configs[section].out / file
        if path.exists() and read_json(path)["complete"] and (key := key_to_go_on(config)):
            raise ValueError(
                f"{path.parent} holds {section} by the {part} as it is, and {part}.{key} would train it on: set run_dir "
                f"to another folder, or remove {path.parent} and what was made of it"
            )
    if "classifier" in configs:
        check_finished(configs["classifier"])


def keeps_codes(config: Any) -> bool:
    """Whether a training leaves all codes as they are, because encoder and codebook are frozen."""
    return {"encoder", "codebook"} <= {*getattr(config, "freeze", ())}


def key_to_go_on(config: Any) -> str | None:
    """The key, steps or patience, that makes an ended run go on; None if it has not ended or would not go on."""
    done = config.run_dir / DONE
    if not done.exists():
        return None
    said = read_json(done)
    early = said.get("ended_early")
    if said["steps"] >= config.steps or early == ended_early(config):
        return None
    return "patience" if early and early["steps"] == config.steps else "steps"


def load(data: Any, split: str) -> ItemDataset:
    """A split of the data. No item is decoded here, so rate, channels and size are arbitrary."""
    if isinstance(data, SpeechDataConfig):
        return load_clips(data, split, sample_rate=1)
    return load_images(data, split, channels=3, size=1)


def check_shapes(configs: Mapping[str, Any]) -> None:
    """Raises ValueError for an image classifier of another shape than the tokenizer, and for bounds on image codes."""
    if "tokenizer" not in configs or configs["tokenizer"].modality != "images":
        return
    prior = configs.get("prior")
    if prior is not None and (prior.min_codes, prior.max_codes) != (1, None):
        raise ValueError(
            f"prior.min_codes={prior.min_codes} and prior.max_codes={prior.max_codes}, but images have grids of codes, all of "
            "the same length: leave both out"
        )
    model, classifier = configs["tokenizer"].model, configs.get("classifier")
    for key in ("image_size", "in_channels") if classifier is not None else ():
        if (wanted := getattr(model, key)) != (given := getattr(classifier, key)):
            raise ValueError(
                f"classifier.{key}={given}, but tokenizer.model.{key}={wanted}, and the classifier is to score its images: set "
                f"classifier.{key}={wanted}"
            )


def check_items(configs: Mapping[str, Any], train: ItemDataset) -> None:
    """Raises ValueError for labels, speakers or texts that a section needs and the training items do not have."""
    names = {"label": train.classes, "speaker": getattr(train, "speakers", ())}
    if "classifier" in configs and len(train.classes) < 2:
        raise ValueError(
            f"the data have {len(train.classes)} labels, and a classifier needs two: set data.label_column, or leave the "
            "section classifier out"
        )
    condition = getattr(configs.get("prior"), "condition", None) or "none"
    there = {**names, "text": getattr(train.config, "text_column", None)}
    for part in condition.split("+") if condition != "none" else ():
        if not there[part]:
            raise ValueError(
                f"prior.condition={condition!r}, but the data have no {part}: set prior.condition, or data.{part}_column"
            )
    for kind, known in names.items() if "codes" in configs else ():
        given = getattr(configs.get("samples"), f"{kind}s", None)
        if given is not None:
            check_named(given, known, kind)


def check_named(given: Named | Sequence[Named], names: Sequence[str], kind: str) -> None:
    """Raises ValueError for a name that is not among these, and for a number that none of them has."""
    try:
        written_numbers(given, names, kind)
    except ValueError as error:
        raise ValueError(f"{error}: set samples.{kind}s") from None


def check_folders(config: Any) -> None:
    """Raises ValueError for a file in the way of a section's results or among them, and for a folder that this user may not write."""
    folder = output_folder(config)
    check_folder(folder)
    for place in (folder / name for name in RESULTS):
        check_folder(place)
    best = folder / "best"  # replaced in the middle of a training
    if (best / HASHES).is_file() and (other := files_in(best) - sealed_files(best)):
        raise ValueError(f"{best} holds {min(other)}, which would be lost: move it elsewhere")


def check_folder(folder: Path) -> None:
    """Raises ValueError for a file in the way, and for a folder that this user may not write."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(
            f"{there} is a file, and {folder} must be a folder: remove it, or set run_dir"
        )
    if not os.access(there, os.W_OK):
        raise ValueError(f"{there} can't be written: set run_dir to another folder")
