"""Rows of Parquet files, all or a slice of them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
from datasets import Dataset, Features, IterableDataset
from fsspec import AbstractFileSystem
from pyarrow import parquet

SLICE = re.compile(r"(.+?)(\[[^\[\]]*:[^\[\]]*\])?")
ROWS_AT_ONCE = 64
"""Rows of a stream that are turned into Python's objects at once."""


def parquet_rows(where: str, *, streaming: bool = False) -> Dataset | IterableDataset:
    """The rows of a file or pattern, which may end with a slice: `train.parquet[:10%]`.

    Raises OSError or ValueError for what can't be read; a stream can't be sliced.
    """
    match = SLICE.fullmatch(where)
    if match is None:
        raise ValueError("it names no file")
    pattern, part = match.groups("")
    if not streaming:
        return datasets.load_dataset("parquet", data_files=pattern, split=f"train{part}")
    if part:
        raise ValueError("a stream can't be sliced")
    filesystem, pattern = fsspec.url_to_fs(pattern)
    files = sorted(filesystem.glob(pattern))
    if not files:
        raise FileNotFoundError("there is no such file")
    features = Features.from_arrow_schema(parquet.read_schema(files[0], filesystem=filesystem))
    given = {"files": files, "filesystem": filesystem}
    return IterableDataset.from_generator(streamed, features=features, gen_kwargs=given)


def holds_tables(folder: Path) -> bool:
    """Whether a folder is one of Parquet files, beside which `datasets` may find metadata of other files."""
    return any(path.name != "metadata.parquet" for path in folder.rglob("*.parquet"))


def streamed(files: list[str], filesystem: AbstractFileSystem) -> Iterator[dict[str, Any]]:
    """The rows of the files, one after another; only one row group at a time is in memory.

    Arrow's readers of many groups, which `datasets` uses, keep what was read before or read ahead.
    """
    for path in files:
        with parquet.ParquetFile(path, filesystem=filesystem) as stored:
            for group in range(stored.num_row_groups):
                rows = stored.read_row_group(group, use_threads=False)
                for some in rows.to_batches(ROWS_AT_ONCE):
                    yield from some.to_pylist()
