"""Where a data set lies: its source, and which of its splits are for training, validation and test."""

import re
from collections.abc import Sequence
from glob import escape, glob
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import datasets
from datasets import Dataset
from datasets.exceptions import DatasetsError
from PIL import Image

from common.hub import go_offline_if_unreachable
from stage1_tokenizer.parquet import holds_tables, parquet_rows
from stage1_tokenizer.speech.audio_folder import SUFFIXES, audio_folder_rows, files_of

TRAIN = ("train", "training")
HELD_OUT = {
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""Names of the splits; of each the first that is there is taken."""
PART = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?(?=\.parquet$)")
"""Of a name of Parquet files in parts, which of them this one is."""


class Opened(NamedTuple):
    """A data set that was found."""

    source: str
    """The recipe's data.source."""
    subset: str | None
    """Its data.subset."""
    splits: dict[str, str]
    """The name or file pattern of each split found: train, validation, test."""
    items: Dataset
    """The training items."""
    left_out: int = 0
    """Files of a folder that are in no split."""


def open_data(data: str) -> Opened:
    """The data set at a place: a folder, Parquet files or a name on the Hub. Raises ValueError where there is none."""
    path = Path(data)
    folders = [place for place in path.iterdir() if place.is_dir()] if path.is_dir() else []
    refuse_capitals(
        path, [*(folder.name for folder in folders), *(p.stem for p in path.glob("*.parquet"))]
    )
    if path.is_file() and path.suffix.lower() in (*SUFFIXES, *Image.registered_extensions()):
        raise ValueError(f"{data} is one item: give the folder that it is in")
    if path.is_file() or glob(data, recursive=True) not in ([], [data]):
        return open_parquet(data)
    kinds, tables = (SUFFIXES, Image.registered_extensions()), holds_tables(path)
    sounds, images = (0, 0) if tables else (len(files_of(path, kind)) for kind in kinds)
    if sounds > images:
        return open_sounds(path, [folder.name for folder in folders], sounds)
    try:
        go_offline_if_unreachable()
        if tables:
            subset, found = None, datasets.load_dataset(data)
        elif path.is_dir():
            subset, found = None, datasets.load_dataset("imagefolder", data_dir=data)
        else:
            names = datasets.get_dataset_config_names(data)
            subset = None if len(names) == 1 or "default" in names else names[0]
            found = datasets.load_dataset(data, subset)
    except (OSError, ValueError, KeyError, DatasetsError) as error:
        reason = reason_of(error)
        if links := [place for place in folders if place.is_symlink()]:
            reason = f"{links[0]} is a link to a folder, and is not followed: give what it leads to"
        elif path.is_dir() and images == 0:
            there = sorted({file.suffix.lower() for file in path.rglob("*") if file.suffix})
            reason = f"its files are {', '.join(there[:8]) or 'none'}; of sound, {', '.join(SUFFIXES)} are read"
        raise ValueError(
            f"{data} is no folder with images or sound, no file and no data set of the Hub that can be read "
            f"({reason})"
        ) from None
    train = "train" if "train" in found else next(iter(found))
    others = [name for name in found if name != train]
    left_out = images - sum(map(len, found.values())) if path.is_dir() else 0
    return Opened(data, subset, {"train": train} | held_out(others), found[train], left_out)


def reason_of(error: Exception) -> str:
    """The first line of what went wrong; `datasets` wraps it in an error that says nothing."""
    cause = (error.__cause__ if isinstance(error, DatasetsError) else None) or error
    return (str(cause).splitlines() or [repr(cause)])[0]


def refuse_capitals(path: Path, names: Sequence[str]) -> None:
    """Raises ValueError for folders or files of splits that would not be taken for such, as their names are not in lower case."""
    splits = {*TRAIN, *chain(*HELD_OUT.values())}
    if {name.lower() for name in names} <= splits and not {*names} <= splits:
        raise ValueError(
            f"{path} has {', '.join(sorted(names))}: rename them in lower case, which splits have"
        )


def held_out(there: Sequence[str]) -> dict[str, str]:
    """Which of some names are those of the validation and of the test split."""
    return {
        split: name
        for split, names in HELD_OUT.items()
        if (name := next(filter(there.__contains__, names), None))
    }


def open_sounds(path: Path, names: Sequence[str], count: int) -> Opened:
    """A folder of sound. Raises ValueError where held-out clips lie beside training clips without a folder."""
    train = next(filter(names.__contains__, TRAIN), None)
    splits = {"train": train or "train"} | held_out(names)
    if train is None and len(splits) > 1:
        raise ValueError(
            f"{path} has the folders {', '.join(sorted(names))}, and none of training clips: name it train"
        )
    rows = audio_folder_rows(path, splits["train"])
    of_splits = sum(len(files_of(path / name, SUFFIXES)) for name in splits.values())
    return Opened(str(path), None, splits, rows, count - of_splits if train else 0)


def open_parquet(data: str) -> Opened:
    """A Parquet file, or a pattern of such files."""
    splits = parquet_splits(data)
    try:
        items = parquet_rows(splits["train"])
    except (OSError, ValueError, DatasetsError) as error:
        raise ValueError(f"{data} can't be read as a Parquet file ({reason_of(error)})") from None
    assert isinstance(items, Dataset)
    return Opened("parquet", None, splits, items)


def parquet_splits(data: str) -> dict[str, str]:
    """The Parquet files of each split, by their names; a file in parts, `train-00000-of-00002.parquet`, has all of them."""
    train = Path(PART.sub("-*", escape(data) if Path(data).is_file() else data))
    names = chain(*HELD_OUT.values()) if "train" in train.name else ()
    others = {name: str(train.with_name(train.name.replace("train", name))) for name in names}
    there = held_out([name for name, pattern in others.items() if glob(pattern)])
    return {"train": str(train)} | {split: others[name] for split, name in there.items()}
