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
        items.count(["a.wav"] * rank, epoch, 8, unfit=3)
    said, resumed = [items.totals(CPU), items.totals(CPU)], BadItems(None)
    resumed.load_state_dict(items.state_dict())
    resumed.count([], 1, 8, unfit=rank)
    torch.save([*said, resumed.totals(CPU)], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_count_what_either_has_met(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(counted, (tmp_path,), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == [[2, 12], [2, 12], [2, 13]]
