"""Two processes with different vectors keep one codebook: that of one process with all the vectors."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.multiprocessing
from torch import Tensor
from torch import distributed as dist

from stage1_tokenizer.quantizers import CVQ, EMA, LC, RQ, SCVAE, VQ, Affine, QINCo, Quantizer
from stage1_tokenizer.quantizers.codebook_init import k_means

STEPS, SIZE, DIM = 5, 24, 4
ROWS = (50, 30)
"""Vectors of each process in a step: not equally many, as of speech."""
KINDS: dict[str, tuple[type[Quantizer], dict[str, object]]] = {
    "vq-data": (VQ, {"start": "data"}),
    "lc": (LC, {}),
    "ema": (EMA, {"decay": 0.5}),
    "ema-redraw": (EMA, {"decay": 0.5, "reset": "redraw", "reset_share": 0.5}),
    "ema-state": (EMA, {"decay": 0.5, "reset": "state", "reset_share": 0.5}),
    "cvq-closest": (CVQ, {}),
    "cvq-random": (CVQ, {"anchor": "random"}),
    "cvq-probrandom": (CVQ, {"anchor": "probrandom"}),
    "affine": (Affine, {"inner_steps": 2, "inner_rate": 5.0, "replace_after": 1}),
    "rq": (RQ, {"decay": 0.5, "reset_share": 0.5}),
    # of two levels: what is left after more is so little that rounding chooses codes
    "rq-apart": (RQ, {"decay": 0.5, "reset_share": 0.5, "shared": False, "levels": 2}),
    "qinco": (QINCo, {"hidden": 4}),
    "scvae": (SCVAE, {"atoms": SIZE}),
    "few": (EMA, {"reset": "state", "reset_share": 0.5, "codebook_size": 200}),
}


def vectors(step: int) -> tuple[Tensor, Tensor]:
    """The part of each of the two processes."""
    generator = torch.Generator().manual_seed(step)
    whole = torch.randn(sum(ROWS), DIM, generator=generator) + 0.3 * step
    return whole[: ROWS[0]], whole[ROWS[0] :]


def after_steps(quantizers: dict[str, Quantizer], parts: tuple[int, ...]) -> dict[str, Tensor]:
    """Every quantizer's state after some steps with these parts of the vectors, from one start."""
    states: dict[str, Tensor] = {}
    for name, quantizer in quantizers.items():
        quantizer.init_from(torch.cat(vectors(0)))
        for step in range(STEPS):
            for part in parts:
                latents = vectors(step)[part]
                quantizer.accumulate(latents, quantizer.encode(latents))
            quantizer.after_step()
        states |= {f"{name}.{key}": value for key, value in quantizer.state_dict().items()}
    return states


def built() -> dict[str, Quantizer]:
    quantizers = {}
    for name, (kind, options) in KINDS.items():
        torch.manual_seed(0)
        size = {} if kind is SCVAE else {"codebook_size": SIZE}
        quantizers[name] = kind(**size | {"code_dim": DIM} | options)
    return quantizers


def one_of_two(rank: int, folder: Path) -> None:
    """What each process runs: its random state is its own, and its modules are older than the group."""
    torch.set_num_threads(1)
    quantizers = built()
    torch.manual_seed(rank)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(after_steps(quantizers, (rank,)), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_keep_the_codebook_of_one_with_all_vectors(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = after_steps(built(), (0, 1))
    assert first.keys() == alone.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        torch.testing.assert_close(value, alone[name], atol=1e-5, rtol=1e-5, msg=name)


def attached(rank: int, folder: Path) -> None:
    """What each process runs: the first alone has read a file, and the first alone has a finite first batch."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=30),
    )
    torch.manual_seed(rank)
    quantizer = EMA(codebook_size=SIZE, code_dim=DIM)
    if rank == 0:
        quantizer.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    quantizer.attach(optimizer)
    quantizer(vectors(0)[rank][None])
    torch.save(quantizer.state_dict(), folder / f"{rank}.pt")
    centres = LC(codebook_size=SIZE, code_dim=DIM)
    centres.attach(optimizer)
    for step, factor in enumerate((torch.inf if rank else 1, 1)):
        centres(factor * vectors(step)[rank][None])
    torch.save(centres.basis, folder / f"centres{rank}.pt")
    dist.destroy_process_group()


def test_attached_both_begin_with_the_weights_or_the_batch_of_the_first(tmp_path: Path) -> None:
    loaded = EMA(codebook_size=SIZE, code_dim=DIM).state_dict()
    torch.save(loaded, tmp_path / "weights.pt")
    torch.multiprocessing.spawn(attached, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(state, loaded)
    # the second process has no finite vector in its first batch: both begin with the next
    expected = k_means(vectors(1)[0], SIZE)
    for rank in (0, 1):
        assert torch.equal(torch.load(tmp_path / f"centres{rank}.pt", weights_only=True), expected)
