"""Shards of codes: which of them a process has still to write, and how one is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter

from common.files import only_one, replaced_file
from stage1_tokenizer.config import EncodeConfig
from stage1_tokenizer.data import ItemDataset, Row

Rows = Iterator[tuple[int, Row]]
"""Items' indices and rows."""


def missing_shards(
    config: EncodeConfig, split: str, items: ItemDataset, state: PartialState
) -> Iterator[tuple[Path, Rows]]:
    """(file of a shard, its items) of the shards that this process has still to write.

    In a shared folder each is this process's alone until the next is asked for. What others have taken comes last:
    it is waited for, and what they have not written when they end is taken over.
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
    """A context in which a shard is this process's alone, and whether it is; its lock goes when the shard is there."""
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
