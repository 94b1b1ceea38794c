"""Every quantizer's forward is one graph for torch.compile, in training and not, with the same results."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from helpers.quantizer_cases import CASES, vectors
from torch import Tensor

from stage1_tokenizer.quantizers import Quantized, Quantizer
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


def compile_all(_: int, path: Path) -> None:
    """What the other process runs: the checks of types, which only tests have, would break graphs here."""
    torch.set_num_threads(1)
    differences = {}
    for name, case in CASES.items():
        for training in (True, False):
            differences[f"{name}, {training}"] = difference(initialized(case.make).train(training))
    path.write_text(json.dumps(differences))


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("compile") / "differences.json"
    torch.multiprocessing.spawn(compile_all, (path,))
    return json.loads(path.read_text())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", CASES)
def test_forward_is_one_graph_and_the_same(
    name: str, training: bool, differences: dict[str, str]
) -> None:
    assert differences[f"{name}, {training}"] == ""
