"""Quantizers on two processes, joined by gloo: as one process on the union of their batches."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from stage1_tokenizer.quantizers import HQA, IBQ, LFQ, Quantizer


def quantizers() -> dict[str, Quantizer]:
    torch.manual_seed(0)
    return {
        "lfq": LFQ(codebook_size=64, temperature=0.5, group_bits=4),
        "ibq": IBQ(codebook_size=20, code_dim=6, temperature=0.5),
        "hqa": HQA(codebook_size=20, code_dim=6),
    }


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 40, 6, generator=generator) + rank for rank in range(2)]


def run(latents: Tensor) -> dict[str, Tensor]:
    """Gradients of an entropy over the batch, and the state after 20 steps."""
    results: dict[str, Tensor] = {}
    for name, quantizer in quantizers().items():
        z = latents.clone().requires_grad_()
        out = quantizer(z)
        if "entropy" in out.losses:
            out.losses["entropy"].backward()
            results[f"{name}.latents"] = z.grad
            results[f"{name}.loss"] = out.losses["entropy"].detach()
            with torch.no_grad():  # evaluates by itself: the other process may not
                assert not dist.is_initialized() or dist.get_rank() == 1 or quantizer(z).losses
        for _ in range(20):
            quantizer.accumulate(out.inputs, out.codes.flatten(0, 1))
            quantizer.after_step()
        results |= {f"{name}.state.{key}": value for key, value in quantizer.state_dict().items()}
    return results


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(run(batches()[rank]), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    whole = run(torch.cat(batches(), dim=1))
    for name, value in whole.items():
        if name.endswith(".latents"):
            halves = torch.cat([first[name], second[name]], dim=1) / 2  # averaged over processes
            torch.testing.assert_close(halves, value, atol=1e-6, rtol=1e-4)
        elif name.endswith(".loss"):
            torch.testing.assert_close((first[name] + second[name]) / 2, value)
        else:
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], value)
    assert not torch.equal(whole["hqa.state.table"], quantizers()["hqa"].state_dict()["table"])
