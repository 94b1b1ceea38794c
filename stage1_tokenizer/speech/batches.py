"""Batches of crops of recordings, a function of the seed and of how many crops went before."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from common.seeding import EndlessSampler, generator_at
from stage1_tokenizer.images.data import SPARE, BadItemError
from stage1_tokenizer.speech.data import SilentItemError, SpeechDataset

Item = dict[str, Any]


class Crops(TorchDataset[Item]):
    """One random crop for each (position, index): a function of the seed, the position and the index."""

    def __init__(self, recordings: SpeechDataset, seed: int) -> None:
        self.recordings, self.seed = recordings, seed

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """The crop, its length, and the names of undecodable recordings that it stands in for.

        A recording that is bad or silent is replaced by one far from it, for neighbours are often
        alike. Raises ValueError where up to nine are.
        """
        position, index = key
        size = len(self.recordings)
        tries = min(SPARE + 1, size)
        bad: list[str] = []
        for i in range(tries):
            row = self.recordings[(index + i * size // tries) % size]
            try:
                crop, length = self.recordings.crop(row, generator_at(self.seed, position))
            except SilentItemError as error:
                last = str(error)
                continue
            except BadItemError as error:
                last = str(error)
                bad.append(last)
                continue
            return {"crop": crop, "length": length, "epoch": position // size, "bad": bad}
        raise ValueError(
            f"{tries} recordings tried one after another can't be decoded or are silent, the last "
            f"is {last}: mend or remove them, or set data.silence_db"
        )


def collate(items: list[Item]) -> dict[str, Any]:
    """Stacked crops and their lengths, the last item's epoch, and all bad names."""
    return {
        "waveforms": torch.stack([item["crop"] for item in items]),
        "lengths": torch.tensor([item["length"] for item in items]),
        "epoch": items[-1]["epoch"],
        "bad": [name for item in items for name in item["bad"]],
    }


def crop_batches(
    recordings: SpeechDataset,
    *,
    batch_size: int,
    seed: int,
    done: int,
    rank: int,
    world: int,
    workers: int,
) -> Iterator[dict[str, Any]]:
    """Endless batches of this process, after `done` crops of all processes. `batch_size` is over all."""
    return iter(
        DataLoader(
            Crops(recordings, seed),
            batch_size // world,
            sampler=EndlessSampler(len(recordings), seed=seed, start=done, rank=rank, world=world),
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
        )
    )
