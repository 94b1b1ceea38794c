"""Every quantizer's forward is one graph for torch.compile, in training and not, with the same results; attached it learns."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from helpers.quantizer_cases import CASES, vectors
from torch import Tensor

from stage1_tokenizer.quantizers import EMA, Quantized, Quantizer
from stage1_tokenizer.quantizers.contract import initialized


def outcome(forward: Any, seed: int = 3) -> tuple[Quantized, Tensor]:
    """What comes out of the vectors, and the gradient of its loss and of some sum of its latents."""
    torch.manual_seed(seed)
    latents = vectors().requires_grad_()
    out = forward(latents)
    total = out.loss + (out.latents * vectors(seed=5)).sum()
    return out, torch.autograd.grad(total, latents)[0]


def difference(quantizer: Quantizer) -> str:
    """What is not the same, or why there is no single graph; nothing where all is well."""
    torch._dynamo.reset()
    exact, slope = outcome(quantizer)
    try:
        traced, traced_slope = outcome(torch.compile(quantizer, fullgraph=True, backend="eager"))
    except Exception as error:  # dynamo has many kinds, and each is a failure to tell
        return str(error)[:500]
    pairs = {"codes": (traced.codes, exact.codes), "latents": (traced.latents, exact.latents)}
    pairs["gradient"] = traced_slope, slope
    pairs |= {name: (traced.losses[name], value) for name, value in exact.losses.items()}
    return ", ".join(name for name, (a, b) in pairs.items() if not torch.equal(a, b))


def learned_steps() -> str:
    """How many steps a quantizer counts that is attached after a compiled call."""
    encoder, quantizer = torch.nn.Linear(6, 6), EMA(codebook_size=8, code_dim=6)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    compiled = torch.compile(lambda x: tuple(quantizer(encoder(x))), backend="eager")
    compiled(vectors())
    quantizer.attach(optimizer)
    for step in range(3):
        compiled(vectors(seed=step))[2].backward()
        optimizer.step()
    return str(int(quantizer.counter.steps))


def compile_each(_: int, names: list[str], path: Path) -> None:
    """What the other process runs: the checks of types, which only tests have, would break graphs here."""
    torch.set_num_threads(1)
    differences = {"learned steps": learned_steps()}
    for name in names:
        for training in (True, False):
            differences[f"{name}, {training}"] = difference(
                initialized(CASES[name].make).train(training)
            )
    path.write_text(json.dumps(differences))


def differences(names: list[str], folder: Path) -> dict[str, str]:
    """Those of each quantizer in training and not, where there are any."""
    torch.multiprocessing.spawn(compile_each, (names, folder / "differences.json"))
    found = json.loads((folder / "differences.json").read_text())
    assert len(found) == 2 * len(names) + 1
    return {name: text for name, text in found.items() if text}


def test_simvq_is_one_graph_and_a_quantizer_attached_after_a_compiled_call_learns(
    tmp_path: Path,
) -> None:
    assert differences(["simvq"], tmp_path) == {"learned steps": "3"}


@pytest.mark.slow
def test_forward_of_every_quantizer_is_one_graph_and_the_same(tmp_path: Path) -> None:
    assert differences([*CASES], tmp_path) == {"learned steps": "3"}
