"""A folder of codes: shards of a `datasets` data set, and their manifest."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from common.files import OWN_HASH, damaged_files, hashed, read_json, sha256, write_text

MOST_CODES = 2**24
"""About the most codes of a data set that are counted; of more, only those of every n-th item are."""


def code_files(folder: Path, split: str) -> list[Path]:
    """The finished shards of a split, in order."""
    shards = (folder / split).glob("shard-*")
    return sorted(path for path in shards if path.suffix in (".arrow", ".parquet"))


def read_codes(folder: Path, split: str) -> Dataset:
    """The items (item, view, label, codes) of a split, memory-mapped."""
    files = code_files(folder, split)
    if not files:
        raise ValueError(f"{folder / split} has no shards of codes: run `simvq encode` first")
    if files[0].suffix == ".parquet":
        return datasets.load_dataset("parquet", data_files=list(map(str, files)), split="train")
    return datasets.concatenate_datasets([Dataset.from_file(str(file)) for file in files])


def write_index(folder: Path, splits: Sequence[str]) -> None:
    """Writes the files that `datasets.load_from_disk` needs to open the folder or a split; none for Parquet."""
    for split in splits:
        files = code_files(folder, split)
        if files[0].suffix != ".arrow":
            return
        names = [{"filename": file.name} for file in files]
        features = read_codes(folder, split).features.to_dict()
        no_format: dict[str, Any] = {
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
        }
        state = {"_data_files": names, **no_format, "_output_all_columns": False, "_split": split}
        state["_fingerprint"] = sha256(files[0])[:16]
        write_text(folder / split / "state.json", json.dumps(state, indent=2))
        info = json.dumps({"features": features}, indent=2)
        write_text(folder / split / "dataset_info.json", info)
    write_text(folder / "dataset_dict.json", json.dumps({"splits": list(splits)}))


def code_lengths(items: Dataset) -> np.ndarray[Any, Any]:
    """The number of codes of each item, without reading the codes."""
    columns = items.select_columns(["codes"]).with_format("arrow")
    return pc.list_value_length(columns[:]["codes"]).to_numpy()  # type: ignore[no-any-return]


def code_sequences(items: Dataset) -> Iterator[np.ndarray[Any, Any]]:
    """The codes of each item; of more than MOST_CODES codes only those of every n-th item."""
    stride = max(1, -(-int(code_lengths(items).sum()) // MOST_CODES))
    items = items.select_columns(["codes"]).with_format("numpy")
    for batch in items.select(range(0, len(items), stride)).iter(10_000):
        yield from batch["codes"]


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of finished codes. Raises ValueError where it is missing or not complete, or a shard is damaged."""
    path = folder / "manifest.json"
    manifest: dict[str, Any] = read_json(path) if path.exists() else {"complete": False}
    if not manifest.get("complete"):
        raise ValueError(
            f"{folder} holds no finished codes: run `simvq encode` first, or set codes"
        )
    if damaged := damaged_shards(folder, manifest):
        raise ValueError(
            f"{folder / damaged[0]} is missing or not as it was written ({len(damaged)} such shards): run `simvq "
            "encode` again"
        )
    return manifest


def hash_of_codes(folder: Path) -> dict[str, str]:
    """The hash of finished codes, without the test split, as `{"codes": ...}`; empty if there are none."""
    path = folder / "manifest.json"
    shards = read_json(path).get("shards", {}) if path.exists() else {}
    trained_on = {name: digest for name, digest in shards.items() if not name.startswith("test/")}
    return {"codes": hashed(trained_on)[OWN_HASH]} if trained_on else {}


def damaged_shards(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """The shards of finished codes that are missing or changed; earlier versions listed none."""
    return list(damaged_files(folder, manifest.get("shards", {})))


def code_dtype(codebook_size: int) -> str:
    """uint16 if it holds all codes, else uint32."""
    return "uint16" if codebook_size <= 65_536 else "uint32"
