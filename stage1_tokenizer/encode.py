"""encode: the codes of every item and view, in shards that are each whole or absent."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, Features, IterableDataset, List, Value
from datasets.arrow_writer import ArrowWriter
from torch import Tensor
from tqdm.auto import tqdm

from common.codes import code_files, read_codes, read_manifest
from common.config import to_plain
from common.hub import local_folder, sha256
from common.manifest import start_manifest, write_manifest
from stage1_tokenizer.batches import BadItems
from stage1_tokenizer.image_data import (
    VIEWS,
    BadItemError,
    ImageDataConfig,
    Pictures,
    Row,
    load_pictures,
)
from stage1_tokenizer.image_tokenizer import ImageTokenizer
from stage1_tokenizer.usage import perplexity, used


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Writes the codes of a data set: `simvq encode CONFIG [key=value ...]`."""

    tokenizer: Path
    """The `model/` folder of a tokenizer, or its name on the Hub."""
    out: Path
    """The folder of the codes; running again goes on with the shards that are missing."""
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    views: tuple[str, ...] = ("centre",)
    """Of each training item: `centre`, `top-left`, `top-right`, `bottom-left`, `bottom-right`, and each of them
    with `-flip`. All ten are LlamaGen's ten-crop. Held-out items have the one view `centre`."""
    shard_items: int = 4096
    """Items in one shard."""
    batch_size: int = 256
    """Pictures encoded at once."""
    threads: int = 4
    """Threads that decode pictures."""
    format: Literal["arrow", "parquet"] = "arrow"

    def __post_init__(self) -> None:
        known = [place + flip for flip in ("", "-flip") for place in VIEWS]
        for name in self.views:
            if name not in known:
                raise ValueError(f"view {name!r} is not one of {', '.join(known)}: set views")


def encode(config: EncodeConfig) -> dict[str, Any]:
    """Writes out/train, out/validation and out/manifest.json; returns the manifest.

    Raises ValueError when the folder holds codes of another tokenizer, data set or choice of views.
    """
    state = PartialState()
    folder = local_folder(config.tokenizer)
    tokenizer = ImageTokenizer.from_pretrained(folder).to(state.device)
    architecture = tokenizer.config
    splits = {
        split: load_pictures(
            config.data, split, channels=architecture.in_channels, size=architecture.image_size
        )
        for split in ("train", "validation")
    }
    request = {
        "tokenizer_sha256": sha256(folder / "model.safetensors"),
        "codebook_size": architecture.quantizer.codebook_size,
        "grid": list(architecture.grid),
        "order": "raster",
        "views": list(config.views),
        "format": config.format,
        "shard_items": config.shard_items,
        "classes": list(splits["train"].classes),
        "data": to_plain(config.data),
        "fingerprints": {split: pictures.fingerprint for split, pictures in splits.items()},
    }
    with state.main_process_first():
        known = start_manifest(config.out / "manifest.json", request)
    if known["complete"]:
        return known
    for split, pictures in splits.items():
        encode_split(config, tokenizer, pictures, split, state)
    state.wait_for_everyone()
    if state.is_main_process:
        bad = {split: bad_items(config.out, split, pictures) for split, pictures in splits.items()}
        finish_manifest(config.out, request, bad)
    state.wait_for_everyone()
    return read_manifest(config.out)


def bad_items(out: Path, split: str, pictures: Pictures) -> list[int]:
    """The numbers of the items that have no codes, because they could not be decoded."""
    found = set(read_codes(out, split)["item"])
    streamed = isinstance(pictures.rows, IterableDataset)
    return sorted(set(range(max(found) + 1 if streamed else len(pictures))) - found)


def finish_manifest(out: Path, request: dict[str, Any], bad: dict[str, list[int]]) -> None:
    """Adds counts, the histogram of the training codes and their use."""
    size = request["codebook_size"]
    counts = torch.zeros(size, dtype=torch.int64)
    rows = {split: len(read_codes(out, split)) for split in bad}
    for batch in read_codes(out, "train").with_format("numpy").iter(10_000):
        flat = np.asarray(batch["codes"]).reshape(-1).astype(np.int64)
        counts += torch.from_numpy(np.bincount(flat, minlength=size))
    manifest = {
        **request,
        "rows": rows,
        "bad": bad,
        "positions": int(counts.sum()),
        "used": used(counts),
        "perplexity": perplexity(counts),
        "histogram": counts.tolist(),
        "complete": True,
    }
    write_manifest(out / "manifest.json", manifest)


def encode_split(
    config: EncodeConfig,
    tokenizer: ImageTokenizer,
    pictures: Pictures,
    split: str,
    state: PartialState,
) -> None:
    """Writes this process's missing shards of a split."""
    views = config.views if split == "train" else ("centre",)
    done = {int(path.stem.split("-")[1]) for path in code_files(config.out, split)}
    size = None if isinstance(pictures.rows, IterableDataset) else len(pictures)
    bad = BadItems(size and size / state.num_processes)
    shards = missing_shards(pictures, config.shard_items, done, state)
    progress = tqdm(shards, desc=f"encode {split}", disable=not state.is_main_process or None)
    for shard, rows in progress:
        columns: dict[str, list[Any]] = {"item": [], "view": [], "label": [], "codes": []}
        for loaded in decoded(pictures, rows, views, config):
            good = [entry for entry in loaded if isinstance(entry, Loaded)]
            refused = [entry for entry in loaded if isinstance(entry, str)]
            bad.count(refused, 0, len(loaded))
            if good:
                fill(columns, tokenizer, good, views, state.device)
        write_shard(config, split, shard, columns, tokenizer)


@dataclass
class Loaded:
    """One item's views, in memory."""

    item: int
    label: int
    views: Tensor


def missing_shards(
    pictures: Pictures, shard_items: int, done: set[int], state: PartialState
) -> Iterator[tuple[int, Iterator[tuple[int, Row]]]]:
    """(shard number, its numbered rows) of the shards that this process has still to write."""

    def wanted(shard: int) -> bool:
        return shard % state.num_processes == state.process_index and shard not in done

    if isinstance(pictures.rows, IterableDataset):
        stream = enumerate(pictures.rows)
        for shard, first in enumerate(iter(lambda: list(islice(stream, shard_items)), [])):
            if wanted(shard):
                yield shard, iter(first)
        return
    for shard in range(-(-len(pictures) // shard_items)):
        if wanted(shard):
            items = range(shard * shard_items, min((shard + 1) * shard_items, len(pictures)))
            yield shard, ((item, pictures[item]) for item in items)


def decoded(
    pictures: Pictures,
    rows: Iterator[tuple[int, Row]],
    views: tuple[str, ...],
    config: EncodeConfig,
) -> Iterator[list[Loaded | str]]:
    """Batches of loaded items, or the names of bad ones; the next batch is decoded meanwhile."""

    def load(numbered: tuple[int, Row]) -> Loaded | str:
        item, row = numbered
        try:
            picture = pictures.decode(row)
        except BadItemError as error:
            return str(error)
        tensors = [pictures.fixed(picture, name) for name in views]
        return Loaded(item, pictures.label(row), torch.stack(tensors))

    items = max(config.batch_size // len(views), 1)
    with ThreadPoolExecutor(config.threads) as pool:
        waiting: list[Future[Loaded | str]] = []
        while batch := [pool.submit(load, row) for row in islice(rows, items)] or waiting:
            ready, waiting = (waiting, batch) if batch is not waiting else (waiting, [])
            if ready:
                yield [future.result() for future in ready]


def fill(
    columns: dict[str, list[Any]],
    tokenizer: ImageTokenizer,
    items: list[Loaded],
    views: tuple[str, ...],
    device: torch.device,
) -> None:
    """Appends the codes of a batch of items to the columns of a shard."""
    images = torch.cat([item.views for item in items])
    codes = tokenizer.encode(images.to(device)).flatten(1).cpu().numpy()
    columns["item"] += [item.item for item in items for _ in views]
    columns["view"] += list(views) * len(items)
    columns["label"] += [item.label for item in items for _ in views]
    columns["codes"] += list(codes)


def write_shard(
    config: EncodeConfig,
    split: str,
    shard: int,
    columns: dict[str, list[Any]],
    tokenizer: ImageTokenizer,
) -> None:
    """One file, under its final name only when it is whole."""
    rows, columns_of_grid = tokenizer.config.grid
    dtype = "uint16" if tokenizer.config.quantizer.codebook_size <= 65_536 else "uint32"
    features = Features(
        item=Value("int64"),
        view=Value("string"),
        label=Value("int64"),
        codes=List(Value(dtype), length=rows * columns_of_grid),
    )
    columns["codes"] = [codes.astype(dtype) for codes in columns["codes"]]
    table = Dataset.from_dict(columns, features=features)
    final = config.out / split / f"shard-{shard:05d}.{config.format}"
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.tmp")
    if config.format == "parquet":
        table.to_parquet(partial)
    else:
        with ArrowWriter(path=str(partial), features=features) as writer:
            writer.write_table(table.data.table)
            writer.finalize()
    os.replace(partial, final)
