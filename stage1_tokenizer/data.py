"""Items of any modality: where their rows come from, what their labels are called, and which are held out."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import datasets
from datasets import ClassLabel, Dataset, IterableDataset
from datasets.exceptions import DatasetsError
from torch import Tensor

from common.bounds import Count
from common.hub import go_offline_if_unreachable
from stage1_tokenizer.parquet import holds_tables, parquet_rows
from stage1_tokenizer.split import hold_out, share_of

Row = dict[str, Any]
Rows: TypeAlias = Dataset | IterableDataset
SPLITS = ("train", "validation", "test")
"""Of embedded data sets; validation and test are the same items."""
SPREAD = 64
"""A split's fingerprint reads at least this many items, spread over it; all, if it has fewer."""
BEGINNING = 2**20
"""The fingerprint reads at most this many bytes of an item, from its start."""


class BadItemError(ValueError):
    """An item can't be decoded. The message is its name."""


class UnfitItemError(BadItemError):
    """An item can be decoded but not trained on, which does not count as bad. The message is its name and why."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the items are."""

    source: str
    """The data set embedded here, `parquet`, a folder, or the name of a data set on the Hub."""
    subset: str | None = None
    """The configuration of a Hub data set that has several."""
    train: str = "train"
    """The split to train on, for instance `train[:95%]`; for `parquet` a file or a pattern, with or
    without a slice."""
    validation: str = "validation"
    """The split or file used to evaluate training and choose the best weights; `10%` holds out that share of each
    label's training items."""
    test: str | None = None
    """The split, file or share used only for scores; null scores the validation split."""
    label_column: str | None = "label"
    """The column of the labels; null if there are none."""
    streaming: bool = False
    """Read a Hub data set or Parquet files as a stream, without a copy on disk."""
    shuffle_buffer: Count = 10_000
    """Items in the shuffle buffer of a stream."""

    def __post_init__(self) -> None:
        for first, second in combinations(("train", "validation", "test"), 2):
            where = getattr(self, second)
            if getattr(self, first) == where and share_of(second, where) is None:
                raise ValueError(
                    f"{first}={where!r} and {second}={where!r} are one split, which would measure what was trained on "
                    f"it or chosen by it: set data.{second} to another{', or to null' * (second == 'test')}"
                )

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are."""
        return ("train", "validation", "test")[: 3 if self.test else 2]

    @property
    def scored(self) -> str:
        """The split that scores are of: the test split, or the validation split where there is none."""
        return self.splits[-1]


@dataclass(frozen=True)
class ItemDataset:
    """One split: its rows, with items that are not decoded yet, and what its labels are called."""

    rows: Rows
    config: DataConfig
    classes: tuple[str, ...]
    """Names of the labels; empty for items without."""
    fingerprint: str

    @property
    def is_stream(self) -> bool:
        """Whether the rows can only be read in order, their number unknown."""
        return isinstance(self.rows, IterableDataset)

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]  # type: ignore[index]

    def label(self, row: Row) -> int:
        """The index of a row's label, 0 where there are none."""
        return self.value_index(row, self.config.label_column, self.classes)

    def value_index(self, row: Row, column: str | None, names: tuple[str, ...]) -> int:
        """The place of a row's value among the names of its column; 0 for no column."""
        if column is None:
            return 0
        named = isinstance(self.rows.features[column], ClassLabel)
        return row[column] if named else names.index(str(row[column]))

    def spread(self, count: int) -> Iterable[Row]:
        """At most `count` rows, spread over the split; of a stream all rows, in their order."""
        if self.is_stream:
            return self.rows
        return map(self.__getitem__, range(0, len(self), max(-(-len(self) // count), 1)))

    def counted(self, items: str) -> str:
        """How many `items` there are, in words."""
        return f"a stream of {items}" if self.is_stream else f"{len(self):,} {items}"


def load_rows(
    config: DataConfig,
    split: str,
    embedded: Mapping[str, Callable[[str], Dataset]],
    read_folder: Callable[[Path, str], Dataset],
    *,
    speaker_column: str | None = None,
) -> Rows:
    """The rows of a split of the config: of an embedded data set, Parquet files, a folder or the Hub.

    `embedded` maps the name of each built-in data set to a function that returns one of its splits. If data.test or
    data.validation is a share, it is held out of the training split (test first), spread over labels and any
    speakers. Raises ValueError, in one sentence, for a source or split that is not there.
    """
    shares = {name: share_of(name, getattr(config, name)) for name in ("test", "validation")}
    if shares.get(split) is None and split != "train":
        return read_split(config, split, embedded, read_folder)
    rows = read_split(config, "train", embedded, read_folder)
    for name, share in shares.items():
        if share is not None:
            rows, held_out = hold_out(rows, share, config.label_column, speaker_column)
            if not len(held_out):
                raise ValueError(
                    f"data.{name}={getattr(config, name)!r} holds no item out, where labels or speakers have one each: "
                    f"set data.label_column and data.speaker_column to null, or data.{name} to a split"
                )
            if name == split:
                return held_out
    return rows


def read_split(
    config: DataConfig,
    split: str,
    embedded: Mapping[str, Callable[[str], Dataset]],
    read_folder: Callable[[Path, str], Dataset],
) -> Rows:
    """The rows that data.`split` names, as they are. Raises ValueError as `load_rows` does."""
    where = getattr(config, split)
    if config.source in embedded:
        if where not in SPLITS:
            raise ValueError(
                f"data.{split}={where!r} is no split of {config.source}, which has {', '.join(SPLITS)}: set data.{split}"
            )
        if {config.validation, config.test} == {"validation", "test"}:
            raise ValueError(
                f"data.validation={config.validation!r} and data.test={config.test!r} of {config.source} are the same "
                "items, which would score what was chosen by them: set data.validation to a share, such as 10%, or "
                "data.test to null"
            )
        return embedded[config.source](where)
    try:
        if config.source == "parquet":
            return parquet_rows(where, streaming=config.streaming)
        if (folder := Path(os.path.expanduser(config.source))).is_dir():
            if holds_tables(folder):
                return datasets.load_dataset(str(folder), split=where)
            return read_folder(folder, where)
        go_offline_if_unreachable()
        return datasets.load_dataset(
            config.source, config.subset, split=where, streaming=config.streaming
        )
    except (OSError, ValueError, KeyError, DatasetsError) as error:
        cause = error.__cause__ or error
        reason = (str(cause).splitlines() or [repr(cause)])[0]
        if config.source != "parquet" and not folder.is_dir():
            reason += f"; there is no folder {folder.absolute()} either"
        raise ValueError(
            f"data.source={config.source!r} with data.{split}={where!r} can't be read ({reason}): "
            f"set data.source and data.{split}"
        ) from None


def with_columns(rows: Rows, config: DataConfig, item_key: str, *optional_keys: str) -> Rows:
    """The rows with only the columns that the config names, because reading a row decodes every column.

    Raises ValueError, in one sentence, for a column that is not there.
    """
    columns = list(rows.features or {})
    for key in (item_key, *optional_keys):
        column = getattr(config, key)
        if column is not None and column not in columns:
            none = "" if key == item_key else ", or null for none"
            raise ValueError(
                f"data.{key}={column!r} is not a column of {config.source}: it has "
                f"{', '.join(columns)}; set data.{key}{none}"
            )
    named = [getattr(config, key) for key in (item_key, *optional_keys)]
    return rows.select_columns([*dict.fromkeys(name for name in named if name is not None)])


def refuse_items(config: DataConfig, key: str, feature: object) -> NoReturn:
    """Raises ValueError for a column whose values are no files."""
    raise ValueError(
        f"data.{key}={getattr(config, key)!r} of {config.source} has values of the type {feature}, not files: set "
        f"data.{key} to a column of bytes and paths"
    )


def stored_file(stored: Row) -> str | io.BytesIO:
    """The bytes of an item as an open file, or its path if it has no bytes.

    Raises OSError for a path that is not a regular file: opening a pipe, for instance, would block.
    """
    if stored.get("bytes") is not None:
        return io.BytesIO(stored["bytes"])
    path = stored.get("path")
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(path)
    return str(path)


def fingerprint(rows: Rows, config: DataConfig, split: str, item_column: str) -> str:
    """SHA-256 of the number of rows, the types of label, speaker and text columns, and 64 to 127 rows (all, if fewer).

    Of each row it covers the values of these columns and the file's name, size and first MiB. Moving a folder does not
    change it. For a stream it covers only the names of source and split.
    """
    if not isinstance(rows, Dataset):
        return hashlib.sha256(f"{config.source} {getattr(config, split)}".encode()).hexdigest()
    keys = ("label_column", "speaker_column", "text_column")
    columns = [column for key in keys if (column := getattr(config, key, None)) is not None]
    digest = hashlib.sha256(f"{len(rows)} {[rows.features[name] for name in columns]}".encode())
    for index in range(0, len(rows), max(len(rows) // SPREAD, 1)):
        row = rows[index]
        stored = row[item_column] or {}
        name = name_in(config.source, stored.get("path") or "")
        digest.update(f"{name} {[row[column] for column in columns]}".encode())
        digest.update(beginning(stored))
    return digest.hexdigest()


def name_in(source: str, path: str) -> str:
    """The path relative to the folder `source`; for a file elsewhere, its name."""
    folder = os.path.abspath(os.path.expanduser(source))
    return os.path.relpath(path, folder) if path.startswith(folder) else os.path.basename(path)


def beginning(stored: Row) -> bytes:
    """The first MiB of a stored item, then its size; empty if the file can't be read."""
    try:
        source = stored_file(stored)
        with open(source, "rb") if isinstance(source, str) else source as file:
            return file.read(BEGINNING) + str(file.seek(0, io.SEEK_END)).encode()
    except (OSError, KeyError, TypeError):
        return b""


def held_out_items(
    dataset: ItemDataset, count: int, decode: Callable[[Row], Tensor]
) -> list[Tensor]:
    """At most `count` decodable items, spread over a split; of a stream the first.

    Raises ValueError for a split without any.
    """
    items: list[Tensor] = []
    for row in dataset.spread(count):
        try:
            items.append(decode(row))
        except BadItemError:
            continue
        if len(items) == count:
            break
    if not items:
        raise ValueError("the validation split has no decodable item: set data.validation")
    return items
