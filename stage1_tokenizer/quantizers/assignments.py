"""The vectors of one optimizer step and the codes assigned to them, for averages and resets of codes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.processes import gather_over_processes, process_index, sum_over_processes
from common.seeding import generator_at

NO_BATCH = (
    "after_step has no batch to learn from: call accumulate(out.inputs, out.input_codes) first"
)
SEED = 1
"""Seed of the random choices in resets, which depend on the step alone and so are alike on all processes."""


class Assignments:
    """Vectors and their codes since the last `clear`; counts, sums and samples of them over all processes.

    Vectors that are not finite are ignored; otherwise one overflow would stay in the averages forever. This is
    not a module with buffers, because DistributedDataParallel would overwrite each process's buffers with those
    of the first process.
    """

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._codes: list[Tensor] = []

    def add(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, " m"]) -> None:
        """Takes in one batch."""
        self._inputs.append(inputs.detach().float())
        self._codes.append(codes)

    def clear(self) -> None:
        """Forgets all batches."""
        self._inputs, self._codes = [], []

    @property
    def inputs(self) -> Float[Tensor, "m d"]:
        """The vectors of this process, each non-finite one replaced by the finite one before it.

        Non-finite ones at the start become the last finite one. If none is finite, all values are infinite.
        """
        vectors = torch.cat(self._inputs)
        finite = vectors.isfinite().all(1)
        places = torch.arange(len(vectors), device=vectors.device)
        # the index of the last finite vector up to each, -1 before the first
        last = places.where(finite, -1).cummax(0).values
        chosen = vectors[last.where(last >= 0, last[-1])]
        return chosen.where(finite.any(), torch.inf)

    def counts_and_sums(
        self, size: int, dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]:
        """How many vectors each code has, and their sum, over all processes, with one reduction.

        In the type of the averages that they go into. Raises ValueError for half precision, and without a batch.
        """
        refuse_half(dtype)
        if not self._inputs:
            raise ValueError(NO_BATCH)
        vectors, codes = torch.cat(self._inputs), torch.cat(self._codes)
        ones = vectors.isfinite().all(1, keepdim=True).float()
        sums = vectors.new_zeros(size, vectors.shape[1] + 1)
        sums.index_add_(0, codes, torch.cat([vectors.where(ones > 0, 0), ones], 1))
        sum_over_processes(sums)
        sums = sums.to(dtype)
        return sums[:, -1], sums[:, :-1]

    def sample(self, count: int, step: int) -> Float[Tensor, "k d"]:
        """`count` vectors, spaced evenly over those of all processes from a random start, in random order.

        The choice depends only on `step` and on the vectors, in the order of the processes. If there are fewer than
        `count`, vectors repeat, with noise of a hundredth of their spread. If none is finite, the result is zeros.
        """
        generator = generator_at(SEED, step)
        vectors = self.inputs
        device = vectors.device
        size = len(vectors) * vectors[:1].isfinite().all()  # none where none is finite
        sizes = gather_over_processes(size[None])
        before = sizes[: process_index()].sum()
        total = sizes.sum()
        # every (total / count)-th vector from a random one on: none twice, and no size leaves the device
        offset = (
            (torch.rand((), generator=generator, dtype=torch.float64) * 2**20).long().to(device)
        )
        order = torch.randperm(count, generator=generator).to(device)
        indices = (order * total + offset * total // 2**20) // count - before
        mine = (indices >= 0) & (indices < size)
        sampled = vectors[indices.clamp(0, len(vectors) - 1)].where(mine[:, None], 0)
        sum_over_processes(sampled)
        if len(sizes) == 1 and len(vectors) >= count:  # of several processes some may have fewer
            return sampled
        apart = torch.randn(sampled.shape, generator=generator).to(device)
        spread = sampled.std(0, correction=0).mean()
        return sampled + (total < count) * 0.01 * spread * apart


def refuse_half(dtype: torch.dtype) -> None:
    """Raises ValueError for averages in half precision."""
    if dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"a quantizer in {dtype} would lose the small steps of its averages: train it in float32, under "
            "autocast for mixed precision"
        )


class StepCounter(nn.Module):
    """The number of optimizer steps so far, on which random choices and schedules depend.

    It is saved with the weights. `steps` is a tensor on the device, `value` waits for it once: after that the number
    is known.
    """

    steps: Tensor
    _value: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))
        self.register_load_state_dict_post_hook(_forget_value)

    @property
    def value(self) -> int:
        """The number as an int, read at its first use: a wrapper may first replace it by another process's."""
        if self._value is None:
            self._value = int(self.steps)
        return self._value

    def advance(self) -> None:
        """One step more."""
        self._value = self.value + 1
        self.steps.fill_(self._value)


def _forget_value(counter: StepCounter, _: object) -> None:
    counter._value = None
