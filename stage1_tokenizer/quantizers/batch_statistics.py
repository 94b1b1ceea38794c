"""What a step's batches say of each code: how many vectors chose it, their sum, and rows to reset it with."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.seeding import generator_at
from stage1_tokenizer.quantizers.base import gather_over_processes, sum_over_processes

SEED = 1
"""Of the random choices of resets, which are a function of the step alone: alike on all processes."""


class BatchStatistics:
    """Counts and sums of the vectors noted since the last `clear`, and the vectors themselves.

    Rows that are not finite count for nothing, else one overflow would stay in the averages forever. It
    is no module and has no buffers: the wrapper for several processes copies the first one's buffers to
    the others, and these differ by right.
    """

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._codes: list[Tensor] = []

    def add(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, " m"]) -> None:
        """Notes one batch."""
        self._inputs.append(inputs.detach().float())
        self._codes.append(codes)

    def clear(self) -> None:
        """Forgets all batches."""
        self._inputs, self._codes = [], []

    @property
    def inputs(self) -> Float[Tensor, "m d"]:
        """The vectors of this process; zeros where one is not finite."""
        rows = torch.cat(self._inputs)
        return rows.where(rows.isfinite().all(1, keepdim=True), 0)

    def counts_and_sums(self, size: int) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]:
        """By code, over all processes, with one reduction between them."""
        rows, codes = torch.cat(self._inputs), torch.cat(self._codes)
        ones = rows.isfinite().all(1, keepdim=True).float()
        table = rows.new_zeros(size, rows.shape[1] + 1)
        table.index_add_(0, codes, torch.cat([rows.where(ones > 0, 0), ones], 1))
        sum_over_processes(table)
        return table[:, -1], table[:, :-1]

    def candidates(self, count: int, step: int) -> Float[Tensor, "k d"]:
        """`count` of the vectors of all processes, in random order, each as often as the others.

        Which ones depends on `step` and on the vectors, not on their division among processes. Where
        they are fewer than `count` each comes several times, a hundredth of their spread apart.
        """
        generator = generator_at(SEED, step)
        rows = self.inputs
        device = rows.device
        sizes = gather_over_processes(torch.tensor([len(rows)], device=device))
        before = sizes[: _rank(len(sizes))].sum()
        total = sizes.sum()
        # every (total / count)-th vector from a random one on: no row twice, and no size leaves the device
        begin = (torch.rand((), generator=generator, dtype=torch.float64) * 2**20).long().to(device)
        order = torch.randperm(count, generator=generator).to(device)
        places = (order * total + begin * total // 2**20) // count - before
        mine = (places >= 0) & (places < len(rows))
        chosen = rows[places.clamp(0, len(rows) - 1)] * mine[:, None]
        sum_over_processes(chosen)
        apart = torch.randn(chosen.shape, generator=generator).to(device)
        spread = chosen.std(0, correction=0).mean()
        return chosen + (total < count) * 0.01 * spread * apart


def _rank(world: int) -> int:
    return torch.distributed.get_rank() if world > 1 else 0
