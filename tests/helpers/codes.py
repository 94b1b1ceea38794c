"""Folders of codes, without a tokenizer."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset


def write_codes(folder: Path, codes: Sequence[Sequence[int]]) -> None:
    """One shard of a split, as `simvq encode` writes it."""
    folder.mkdir(parents=True)
    items = {"item": range(len(codes)), "codes": codes}
    Dataset.from_dict({name: list(values) for name, values in items.items()}).to_parquet(
        str(folder / "shard-00000.parquet")
    )
