"""encode: the codes of every item and view, in shards that are each whole or absent."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, Features, Value
from datasets.arrow_writer import ArrowWriter
from tqdm.auto import tqdm

from common.codes import code_files, damaged_shards, read_codes, read_manifest, write_index
from common.config import to_plain
from common.files import only_one, read_json, remove_left, replaced_file, sha256
from common.hub import local_folder
from common.manifest import start_manifest, write_manifest
from common.processes import broadcast_from_first, processes
from stage1_tokenizer.batches import Item, bad_items_of
from stage1_tokenizer.codebook_usage import code_counts, perplexity, used
from stage1_tokenizer.config import EncodeConfig
from stage1_tokenizer.data import BadItemError, ItemDataset, Row
from stage1_tokenizer.modality import MODALITIES, ModalityEncoding
from stage1_tokenizer.quantizers import CodeSpec
from stage1_tokenizer.tokenizer import code_source

In = TypeVar("In")
Out = TypeVar("Out")
Rows = Iterator[tuple[int, Row]]
"""Items' indices and rows."""


def encode(config: EncodeConfig) -> dict[str, Any]:
    """Writes a folder of codes for each split and out/manifest.json; returns the manifest.

    Raises ValueError when the folder holds codes of another tokenizer, data set or choice of views.
    """
    state = processes()
    modality = MODALITIES[config.modality].encoding(config, state.device)
    request = request_of(config, modality)
    with state.main_process_first(), alone(config):
        manifest = begin(config, request)
    # of the first process: one that looks later may find that another command has finished
    if broadcast_from_first(torch.tensor(int(manifest["complete"]), device=state.device)):
        return manifest
    for split in modality.splits:
        encode_split(config, modality, split, state)
    state.wait_for_everyone()
    if state.is_main_process:
        with alone(config):
            if not read_json(config.out / "manifest.json")["complete"]:
                finish(config, modality, request)
    state.wait_for_everyone()
    return read_manifest(config.out)


def alone(config: EncodeConfig) -> AbstractContextManager[object]:
    """A context in which no other command that shares the folder begins or finishes it."""
    return only_one(config.out / ".manifest.lock", wait=True) if config.shared else nullcontext()


def begin(config: EncodeConfig, request: dict[str, Any]) -> dict[str, Any]:
    """The manifest, which is complete where nothing is to be done; shards that are damaged are removed.

    Raises ValueError as `encode` does.
    """
    path, folder = config.out / "manifest.json", local_folder(config.tokenizer)
    request = request | code_source(folder, read_json(path) if path.exists() else {})
    manifest = start_manifest(path, request, "*/shard-*")
    damaged = damaged_shards(config.out, manifest)
    for name in damaged:
        shard = (
            config.out / name
        )  # if it was missing, a command that shares the folder may have made it since
        if shard.is_file() and sha256(shard) != manifest["shards"][name]:
            shard.unlink()
    if damaged:
        manifest = manifest | {"complete": False}
        write_manifest(path, manifest)
    return manifest


def finish(config: EncodeConfig, modality: ModalityEncoding, request: dict[str, Any]) -> None:
    """Writes index and manifest of the shards, which are all there."""
    folder = local_folder(config.tokenizer)
    remove_left(config.out)
    write_index(config.out, list(modality.splits))
    bad = {name: bad_items(config.out, name, items) for name, items in modality.splits.items()}
    request = request | code_source(folder, {})
    request["tokenizer_sha256"] = sha256(folder / "model.safetensors")
    finish_manifest(config.out, request, bad, modality.tokenizer.quantizer.spec)


def request_of(config: EncodeConfig, modality: ModalityEncoding) -> dict[str, Any]:
    """What the codes depend on beside the weights: what a folder of them must agree with."""
    spec, splits = modality.tokenizer.quantizer.spec, modality.splits
    return {
        "codebook_size": spec.alphabet,
        "levels": spec.levels,
        **modality.layout,
        "views": list(modality.views("train")),
        "format": config.format,
        "shard_items": config.shard_items,
        "classes": list(splits["train"].classes),
        "data": to_plain(config.data),
        "item_fingerprints": {name: items.fingerprint for name, items in splits.items()},
    }


def bad_items(out: Path, split: str, items: ItemDataset) -> list[int]:
    """The indices of the items that have no codes, because they could not be decoded.

    Raises ValueError if they are over 1 %: each command or process has checked only what it read.
    """
    encoded = set(read_codes(out, split)["item"])
    count = max(encoded) + 1 if items.is_stream else len(items)
    bad = sorted(set(range(count)) - encoded)
    bad_items_of(items).count({0: [f"item {index} of {split}" for index in bad]}, 0, count)
    return bad


def finish_manifest(
    out: Path, request: dict[str, Any], bad: dict[str, list[int]], spec: CodeSpec
) -> None:
    """Writes the complete manifest: `request`, rows, checksums, bad items, and the training items' use of codes."""
    counts = torch.zeros(sum(spec.sizes), dtype=torch.int64)
    written = {split: len(read_codes(out, split)) for split in bad}
    for batch in read_codes(out, "train").with_format("numpy").iter(10_000):
        flat = np.concatenate(list(batch["codes"])).astype(np.int64)
        counts += code_counts(torch.from_numpy(flat), spec)
    manifest = {
        **request,
        "rows": written,
        "shards": {
            path.relative_to(out).as_posix(): sha256(path)
            for split in bad
            for path in code_files(out, split)
        },
        "bad": bad,
        "positions": int(counts.sum()) // spec.levels,
        "used": used(counts),
        "perplexity": perplexity(counts),
        "histogram": counts.tolist(),
        "complete": True,
    }
    write_manifest(out / "manifest.json", manifest)


def encode_split(
    config: EncodeConfig, modality: ModalityEncoding, split: str, state: PartialState
) -> None:
    """Writes this process's missing shards of a split."""

    def load(place: tuple[int, Row]) -> Item | str:
        index, row = place
        try:
            return modality.load(split, row) | {"item": index, "label": items.label(row)}
        except BadItemError as error:
            return str(error)

    items, views = modality.splits[split], modality.views(split)
    common = {"item": Value("int64"), "view": Value("string"), "label": Value("int64")}
    features = Features(common | modality.columns)
    bad = bad_items_of(items)
    at_once = max(config.batch_size // len(views), 1)
    shards = missing_shards(config, split, items, state)
    progress = tqdm(shards, desc=f"encode {split}", disable=not state.is_main_process or None)
    with ThreadPoolExecutor(config.threads) as pool:
        for path, rows in progress:
            columns: dict[str, list[Any]] = {name: [] for name in features}
            for batch in prefetched(pool, load, rows, at_once):
                loaded = [item for item in batch if not isinstance(item, str)]
                bad.count({0: [name for name in batch if isinstance(name, str)]}, 0, len(batch))
                columns["item"] += [item["item"] for item in loaded for _ in views]
                columns["view"] += [*views] * len(loaded)
                columns["label"] += [item["label"] for item in loaded for _ in views]
                for name, values in (modality.encode(split, loaded) if loaded else {}).items():
                    columns[name] += values
            write_shard(config, path, Dataset.from_dict(columns, features=features))


def prefetched(
    pool: Executor, load: Callable[[In], Out], inputs: Iterator[In], size: int
) -> Iterator[list[Out]]:
    """Batches of `load` of each input; while one is in use the next is loaded."""

    def submit() -> list[Future[Out]]:
        return [pool.submit(load, one) for one in islice(inputs, size)]

    ahead = submit()
    while ahead:
        batch, ahead = ahead, submit()
        yield [future.result() for future in batch]


def missing_shards(
    config: EncodeConfig, split: str, items: ItemDataset, state: PartialState
) -> Iterator[tuple[Path, Rows]]:
    """(file of a shard, its items) of the shards that this process has still to write.

    In a shared folder this process holds a shard's lock until the caller asks for the next shard. Shards that others
    hold come last: this process waits for their locks, then takes over those that were not written.
    """

    def missing(shard: int) -> bool:
        own = config.shared or shard % state.num_processes == state.process_index
        return own and not shard_path(config, split, shard).exists()

    left: list[int] | None = None
    while left is None or any(map(missing, left)):
        left = []
        for shard, rows in shards_of(items, config.shard_items):
            path = shard_path(config, split, shard)
            if not missing(shard):
                continue
            if not config.shared:
                yield path, rows
                continue
            with taken(path, wait=False) as alone:
                if not alone:
                    left.append(shard)
                elif missing(shard):
                    yield path, rows
        for shard in filter(missing, left):
            with taken(shard_path(config, split, shard), wait=True):
                pass


def shard_path(config: EncodeConfig, split: str, shard: int) -> Path:
    """The file of a shard."""
    return config.out / split / f"shard-{shard:05d}.{config.format}"


def shards_of(items: ItemDataset, size: int) -> Iterator[tuple[int, Rows]]:
    """(index of a shard, its items), in order."""
    if items.is_stream:
        stream = enumerate(items.rows)
        for shard, first in enumerate(iter(lambda: list(islice(stream, size)), [])):
            yield shard, iter(first)
        return
    for shard in range(-(-len(items) // size)):
        places = range(shard * size, min((shard + 1) * size, len(items)))
        yield shard, ((place, items[place]) for place in places)


@contextmanager
def taken(path: Path, *, wait: bool) -> Iterator[bool]:
    """Locks a shard while inside, and yields whether that succeeded. The lock file goes once the shard exists."""
    lock = path.with_name(f".{path.stem}.lock.tmp")
    with only_one(lock, wait=wait) as alone:
        yield alone
        if alone and path.exists():
            lock.unlink(missing_ok=True)


def write_shard(config: EncodeConfig, path: Path, table: Dataset) -> None:
    """One file, under its final name only when it is whole."""
    with replaced_file(path) as partial:
        if config.format == "parquet":
            table.to_parquet(partial)
        else:
            with ArrowWriter(path=str(partial), features=table.features) as writer:
                writer.write_table(table.data.table)
                writer.finalize()
