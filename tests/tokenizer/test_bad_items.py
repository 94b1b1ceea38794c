"""Items that were left out: all processes count together, and go on counting after a stop."""

from pathlib import Path

import torch
import torch.multiprocessing
from torch import distributed as dist

from stage1_tokenizer.batches import BadItems

CPU = torch.device("cpu")


def counted(rank: int, folder: Path) -> None:
    """One of two processes, of which the second alone meets bad items; saves what it says, and what one that resumes says."""
    place = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    items = BadItems(None)
    for epoch in (0, 1):
        items.count({epoch: ["a.wav"] * rank}, epoch, 8, unfit=3)
    said, resumed = [items.totals(CPU), items.totals(CPU)], BadItems(None)
    resumed.load_state_dict(items.state_dict())
    resumed.count({}, 1, 8, unfit=rank)
    said.append(resumed.totals(CPU))
    few, many = BadItems(300), BadItems(300)
    few.count({0: ["b.wav"] * (1 + rank)}, 0, 150)  # 1 % of the epoch, most of it of one process
    said.append(few.totals(CPU))
    resumed = BadItems(300)
    resumed.load_state_dict(few.state_dict())
    said.append(resumed.totals(CPU))
    many.count({0: ["b.wav"] * 2}, 0, 150)
    try:
        many.totals(CPU)
    except ValueError as error:
        said.append(str(error))
    torch.save(said, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_count_what_either_has_met_and_refuse_too_many_together(
    tmp_path: Path,
) -> None:
    torch.multiprocessing.spawn(counted, (tmp_path,), nprocs=2)
    for rank in range(2):
        *counts, error = torch.load(tmp_path / f"{rank}.pt")
        assert counts == [[2, 12], [2, 12], [2, 13], [3, 0], [3, 0]]
        assert "4 items of an epoch of 300 can't be decoded, over 1%" in error
