"""Rows of Parquet files, all or a slice of them."""

import re

import datasets
from datasets import Dataset, IterableDataset

SLICE = re.compile(r"(.+?)(\[[^\[\]]*:[^\[\]]*\])?")


def parquet_rows(where: str, *, streaming: bool = False) -> Dataset | IterableDataset:
    """The rows of a file or pattern, which may end with a slice: `train.parquet[:10%]`.

    Raises OSError or ValueError for what can't be read; a stream can't be sliced.
    """
    found = SLICE.fullmatch(where)
    assert found is not None
    files, part = found.groups("")
    return datasets.load_dataset(
        "parquet", data_files=files, split=f"train{part}", streaming=streaming
    )
