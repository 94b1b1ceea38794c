"""encode: the codes of every item and view, in shards that are each whole or absent."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, IterableDataset
from datasets.arrow_writer import ArrowWriter
from tqdm.auto import tqdm

from common.codes import code_files, read_codes, read_manifest
from common.manifest import start_manifest, write_manifest
from common.processes import processes
from stage1_tokenizer.batches import BadItems
from stage1_tokenizer.codebook_usage import code_counts, perplexity, used
from stage1_tokenizer.encode_config import EncodeImagesConfig, EncodeSpeechConfig
from stage1_tokenizer.images.data import BadItemError, ImageDataset, Row
from stage1_tokenizer.images.encode import ImageEncoding, LoadedPicture
from stage1_tokenizer.quantizers import CodeSpec
from stage1_tokenizer.speech.data import SpeechDataset
from stage1_tokenizer.speech.encode import LoadedRecording, SpeechEncoding

Source = ImageEncoding | SpeechEncoding
Split = ImageDataset | SpeechDataset
Loaded = LoadedPicture | LoadedRecording


def encode(config: EncodeImagesConfig | EncodeSpeechConfig) -> dict[str, Any]:
    """Writes out/train, out/validation and out/manifest.json; returns the manifest.

    Raises ValueError when the folder holds codes of another tokenizer, data set or choice of views.
    """
    state = processes()
    source: Source
    if isinstance(config, EncodeSpeechConfig):
        source = SpeechEncoding(config, state.device)
    else:
        source = ImageEncoding(config, state.device)
    request = source.request
    with state.main_process_first():
        known = start_manifest(config.out / "manifest.json", request)
    if known["complete"]:
        return known
    for split in source.splits:
        encode_split(source, split, state)
    state.wait_for_everyone()
    if state.is_main_process:
        bad = {split: bad_items(config.out, split, rows) for split, rows in source.splits.items()}
        finish_manifest(config.out, request, bad, source.tokenizer.quantizer.spec)
    state.wait_for_everyone()
    return read_manifest(config.out)


def bad_items(out: Path, split: str, items: Split) -> list[int]:
    """The numbers of the items that have no codes, because they could not be decoded."""
    found = set(read_codes(out, split)["item"])
    streamed = isinstance(items.rows, IterableDataset)
    return sorted(set(range(max(found) + 1 if streamed else len(items))) - found)


def finish_manifest(
    out: Path, request: dict[str, Any], bad: dict[str, list[int]], spec: CodeSpec
) -> None:
    """Adds counts, the histogram of the training codes and their use.

    Several codes of one position are counted level by level, each in an alphabet of its own.
    """
    counts = torch.zeros(sum(spec.sizes), dtype=torch.int64)
    rows = {split: len(read_codes(out, split)) for split in bad}
    for batch in read_codes(out, "train").with_format("numpy").iter(10_000):
        flat = np.concatenate(list(batch["codes"])).astype(np.int64)
        counts += code_counts(torch.from_numpy(flat), spec)
    manifest = {
        **request,
        "rows": rows,
        "bad": bad,
        "positions": int(counts.sum()) // spec.levels,
        "used": used(counts),
        "perplexity": perplexity(counts),
        "histogram": counts.tolist(),
        "complete": True,
    }
    write_manifest(out / "manifest.json", manifest)


def encode_split(source: Source, split: str, state: PartialState) -> None:
    """Writes this process's missing shards of a split."""
    config, items = source.config, source.splits[split]
    done = {int(path.stem.split("-")[1]) for path in code_files(config.out, split)}
    size = None if isinstance(items.rows, IterableDataset) else len(items)
    bad = BadItems(size and size / state.num_processes)
    shards = missing_shards(items, config.shard_items, done, state)
    progress = tqdm(shards, desc=f"encode {split}", disable=not state.is_main_process or None)
    for shard, rows in progress:
        columns: dict[str, list[Any]] = {name: [] for name in source.features}
        for loaded in decoded(source, split, rows):
            good = [entry for entry in loaded if not isinstance(entry, str)]
            refused = [entry for entry in loaded if isinstance(entry, str)]
            bad.count(refused, 0, len(loaded))
            if good:
                for name, values in source.encode(split, good).items():  # type: ignore[arg-type]
                    columns[name] += values
        write_shard(source, split, shard, columns)


def missing_shards(
    items: Split, shard_items: int, done: set[int], state: PartialState
) -> Iterator[tuple[int, Iterator[tuple[int, Row]]]]:
    """(shard number, its numbered rows) of the shards that this process has still to write."""

    def wanted(shard: int) -> bool:
        return shard % state.num_processes == state.process_index and shard not in done

    if isinstance(items.rows, IterableDataset):
        stream = enumerate(items.rows)
        for shard, first in enumerate(iter(lambda: list(islice(stream, shard_items)), [])):
            if wanted(shard):
                yield shard, iter(first)
        return
    for shard in range(-(-len(items) // shard_items)):
        if wanted(shard):
            places = range(shard * shard_items, min((shard + 1) * shard_items, len(items)))
            yield shard, ((place, items[place]) for place in places)


def decoded(
    source: Source, split: str, rows: Iterator[tuple[int, Row]]
) -> Iterator[list[Loaded | str]]:
    """Batches of loaded items, or the names of bad ones; the next batch is decoded meanwhile."""

    def load(numbered: tuple[int, Row]) -> Loaded | str:
        try:
            return source.load(split, *numbered)
        except BadItemError as error:
            return str(error)

    items = max(source.config.batch_size // len(source.views(split)), 1)
    with ThreadPoolExecutor(source.config.threads) as pool:
        waiting: list[Future[Loaded | str]] = []
        while batch := [pool.submit(load, row) for row in islice(rows, items)] or waiting:
            ready, waiting = (waiting, batch) if batch is not waiting else (waiting, [])
            if ready:
                yield [future.result() for future in ready]


def write_shard(source: Source, split: str, shard: int, columns: dict[str, list[Any]]) -> None:
    """One file, under its final name only when it is whole."""
    config, features = source.config, source.features
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
