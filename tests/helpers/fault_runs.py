"""Whole experiments at their smallest, for faults: how they are made, copied and compared."""

import json
import shutil
from pathlib import Path
from typing import Any

import helpers.image_runs
import helpers.speech_runs
from helpers.forked import Ended, Fault, Forked, forked

from pipelines.cli import VERBS

ROOT = Path(__file__).parents[2]
SECTIONS = {verb: section for verb, (section, _) in VERBS.items()}
"""In order: the verbs, and the folder that each fills."""
CLOCKS = (
    "time",
    "speed/",
    "environment",
    "python",
    "versions",
    "report",
    "sha256",
    "metrics.jsonl",
)
"""What may differ between two runs: what clocks say, and the hashes of what holds it."""
SHARED = (
    *("tokenizer.steps=4", "tokenizer.save_every=2", "tokenizer.log_every=2"),
    *("classifier.steps=2", "codes.shard_items=8", "samples.batch_size=4", "samples.count=6"),
    *("prior.steps=4", "prior.save_every=2", "prior.log_every=2", "prior.batch_size=4"),
)
OWN = {
    "images": ("tokenizer.batch_size=8", "codes.views=[centre,top-left]"),
    "speech": (
        *("data.test=null", "allow_failed=true", "tokenizer.batch_size=4"),
        *("tokenizer.model.ratios=[8,5]", "tokenizer.model.width=2"),
        *(f"tokenizer.model.decoder_{key}=32" for key in ("width", "hidden")),
        *("tokenizer.model.decoder_layers=1", "tokenizer.model.n_fft=160"),
        *("tokenizer.augment.crop_seconds=0.25", "tokenizer.model.quantizer.codebook_size=32"),
        *("classifier.batch_size=4", "samples.max_codes=8", "score.slow_count=1"),
        "score.voicing=none",
    ),
}
FILES = {"images": ROOT / "configs/smoke.yaml", "speech": ROOT / "configs/spoken_digits.yaml"}


def words(folder: Path, modality: str) -> list[str]:
    """The command's words after the verb, for an experiment in a folder whose data lie beside it."""
    data = folder.parent / "data"
    splits = ("train", "validation", *(["test"] if modality == "images" else []))
    return [
        str(FILES[modality]),
        *(f"run_dir={folder}", "data.source=parquet", f"score.cache={folder / 'cache'}"),
        *(f"data.{split}={data / split}.parquet" for split in splits),
        *(*SHARED, *OWN[modality]),
    ]


def command(verb: str, folder: Path, modality: str, *more: str) -> None:
    """`simvq VERB`, as it is typed, perhaps with more overrides."""
    from pipelines import cli

    cli.main([verb, *words(folder, modality), *more])


def made(verb: str, folder: Path, modality: str, fault: Fault | None = None) -> Ended:
    """The verb's end, in a process of its own."""
    return forked(command, verb, folder, modality, folder=folder, fault=fault)


def begun(
    verb: str, folder: Path, modality: str, fault: Fault | None = None, log: str = "log"
) -> Forked:
    """The verb at work, in a process of its own."""
    return Forked(command, verb, folder, modality, folder=folder, fault=fault, log=log)


def make_whole(root: Path, modality: str) -> Path:
    """A run that nothing happened to, of every verb."""
    if modality == "images":
        helpers.image_runs.few_digits(root / "data", train=32, validation=12, test=12)
    else:
        helpers.speech_runs.words(root / "data")
    for verb in SECTIONS:
        ended = made(verb, root / "whole", modality)
        assert ended.status == 0, ended.log
    return root / "whole"


def copied(whole: Path, folder: Path, *verbs: str) -> None:
    """Copies what these verbs left in the run `whole` to `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for verb in verbs:
        shutil.copytree(whole / SECTIONS[verb], folder / SECTIONS[verb])
        if verb == "score" and (whole / "cache").exists():
            shutil.copytree(whole / "cache", folder / "cache")


def before(verb: str) -> list[str]:
    """The verbs that come before one."""
    return [*SECTIONS][: [*SECTIONS].index(verb)]


def result(folder: Path, verb: str) -> dict[str, Any]:
    """What a verb left, by file: bytes, and JSON but for clocks and the folder's own name."""
    place = folder / SECTIONS[verb]
    files: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.suffix in (".safetensors", ".npz", ".png", ".wav", ".arrow"):
            files[name] = path.read_bytes()
        elif path.name in ("score.json", "sample.json", "manifest.json", "done.json"):
            files[name] = steady(json.loads(path.read_text().replace(str(folder), "RUN")))
        elif path.name == "metrics.jsonl" and "checkpoints" not in path.parts:  # those are copies
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            files[name] = {line["step"]: steady(line) for line in lines if "step" in line}
    return files


def steady(value: Any) -> Any:
    """JSON without what clocks and paths say."""
    if isinstance(value, dict):
        return {
            key: steady(inner)
            for key, inner in value.items()
            if not key.startswith(CLOCKS) and key not in ("config", "inputs")
        }
    return [steady(inner) for inner in value] if isinstance(value, list) else value
