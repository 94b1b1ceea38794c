"""Models as earlier versions saved them: weights that are a function of their names, so that none are stored."""

import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

SAVED = Path(__file__).parents[1] / "pipelines" / "saved"


def restored(modality: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The whole folder of a saved pipeline, and what the version that saved it made of it."""
    shutil.copytree(SAVED / modality, folder, dirs_exist_ok=True)
    for part, shapes in json.loads((folder / "weights.json").read_text()).items():
        write_weights(folder / part, shapes)
    return folder, json.loads((folder / "expected.json").read_text())


def filled(name: str, shape: Sequence[int]) -> Tensor:
    """A tensor that is the same on any machine: uniform around 0 for matrices, around 1 for vectors."""
    uniform = np.random.RandomState(zlib.crc32(name.encode())).random_sample(tuple(shape)) - 0.5
    return torch.from_numpy(0.5 * uniform + (len(shape) == 1)).float()


def write_weights(folder: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Writes the model.safetensors of a model whose weights have these names and shapes."""
    tensors = {name: filled(name, shape) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
