"""Rows of Parquet files, all or a slice of them."""

import re

import datasets
import pyarrow.dataset
from datasets import Dataset, IterableDataset

SLICE = re.compile(r"(.+?)(\[[^\[\]]*:[^\[\]]*\])?")


def parquet_rows(where: str, *, streaming: bool = False) -> Dataset | IterableDataset:
    """The rows of a file or pattern, which may end with a slice: `train.parquet[:10%]`.

    Raises OSError or ValueError for what can't be read; a stream can't be sliced.
    """
    found = SLICE.fullmatch(where)
    assert found is not None
    files, part = found.groups("")
    split = f"train{part}"
    if not streaming:
        return datasets.load_dataset("parquet", data_files=files, split=split)
    # as it is by default, all of a file is in memory before its last row is read
    as_it_goes = pyarrow.dataset.ParquetFragmentScanOptions(pre_buffer=False)
    return datasets.load_dataset(
        "parquet", data_files=files, split=split, streaming=True, fragment_scan_options=as_it_goes
    )
