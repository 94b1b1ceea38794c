"""Folders of audio files as rows; the reader that `datasets` has for them needs TorchCodec."""

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, ReadInstruction, Value

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")
"""Of the files that soundfile reads and a folder is searched for."""
METADATA = "metadata.csv"
"""At the top of a split: a column file_name, and further columns such as text and speaker."""


def audio_folder_rows(folder: Path, where: str) -> Dataset:
    """The files under `folder` in the order of their names: audio, label, metadata.

    `where` names a subfolder, or, where there are no such subfolders, must be `train`, for all
    files; a part in brackets may follow, as in `train[:95%]`. A file's label is the name of its
    folder in the split. Raises ValueError for a folder without audio files, for a split that is
    not there, and for links to folders.
    """
    split, bracket, _ = where.partition("[")
    root = folder / split
    has_splits = any((folder / name).is_dir() for name in ("validation", "test"))
    if not root.is_dir() and split == "train" and not has_splits:
        root = folder
    for path in visible(root):
        if path.is_symlink() and path.is_dir():
            raise ValueError(f"{path} is a link to a folder: put the folder itself there")
    files = sorted(files_of(root, SUFFIXES))
    if not files and files_of(folder, SUFFIXES):
        raise ValueError(f"{folder} has no audio files in a subfolder {split!r}")
    if not files:
        raise ValueError(f"{folder} has no audio files ({', '.join(SUFFIXES)})")
    rows = _rows(root, files)
    if not bracket:
        return rows
    (chosen,) = ReadInstruction.from_spec(where).to_absolute({split: len(rows)})
    return rows.select(range(chosen.from_ or 0, len(rows) if chosen.to is None else chosen.to))


def files_of(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files under a folder that have one of the suffixes."""
    return [path for path in visible(folder) if path.suffix.lower() in suffixes]


def visible(folder: Path) -> Iterator[Path]:
    """What is under a folder and not hidden, as what macOS adds is."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _rows(root: Path, files: list[Path]) -> Dataset:
    """The rows of the files. Raises ValueError if only some are in label folders, and as `_metadata` does."""
    columns: dict[str, list[Any]] = {"audio": [{"bytes": None, "path": str(p)} for p in files]}
    metadata, alone = _metadata(root, files), [path for path in files if path.parent == root]
    if len(alone) < len(files) and "label" not in metadata:
        if alone:
            raise ValueError(
                f"{alone[0]} is beside the folders whose names are the labels: move it into one of them"
            )
        columns["label"] = [path.parent.name for path in files]
    columns |= metadata
    features = Features({name: Value("string") for name in columns})
    features["audio"] = {"bytes": Value("binary"), "path": Value("string")}
    return Dataset.from_dict(columns, features=features)


def _metadata(root: Path, files: list[Path]) -> dict[str, list[str]]:
    """The columns of metadata.csv, in the order of the files; none without such a file.

    Raises ValueError where its lines and the files are not the same, and as `_table` does.
    """
    table = root / METADATA
    if not table.is_file():
        return {}
    lines: dict[str, dict[str, str]] = {}
    for row in _table(table):
        name = row.pop("file_name")
        if name in lines:
            raise ValueError(f"{table} has two lines whose file_name is {name!r}: remove one")
        lines[name] = row
    paths = [str(path.relative_to(root)) for path in files]
    for name in paths:
        if name not in lines:
            raise ValueError(
                f"{table} has no line whose file_name is {name}: add one, or remove the file"
            )
    for name in sorted(lines.keys() - set(paths)):
        raise ValueError(
            f"{table} has a line for {name!r}, which is no audio file there: remove the line"
        )
    ordered = [lines[path] for path in paths]
    return {name: [line[name] for line in ordered] for name in ordered[0]}


def _table(table: Path) -> list[dict[str, str]]:
    """The lines of a table by the names of its columns. Raises ValueError for one that is none, or lacks file_name."""
    with table.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened, strict=True)
        try:
            names, rows = reader.fieldnames or [], list(reader)
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{table} is not a valid CSV file ({error}): fix it") from None
    if len(set(names)) < len(names):
        raise ValueError(f"{table} has two columns of one name: rename one")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(
                f"{table}, line {number} must have one value for each name in the first line: fix it"
            )
    if "file_name" not in names:
        raise ValueError(
            f"{table} has no column file_name, its first line is {','.join(names)!r}: name the columns there, with commas "
            "between them"
        )
    if "audio" in names:
        raise ValueError(f"{table} has a column audio, which the files themselves are: rename it")
    return rows
