"""The quantizer's own learning rate, `quantizer_lr`: zero is one too."""

from pathlib import Path

import torch
from helpers.image_runs import tokenizer_config
from safetensors.torch import load_file
from torch import Tensor

from common.checkpoints import list_checkpoints
from stage1_tokenizer.train import train_tokenizer


def weights(run_dir: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The model after its first and after its last step."""
    first, *_, last = (load_file(c / "state.safetensors") for c in list_checkpoints(run_dir))
    return first, last


def test_with_a_learning_rate_of_zero_the_quantizer_stays_as_it_is(tmp_path: Path) -> None:
    for rate, learns in ((0.0, False), (1e-3, True)):
        run_dir = tmp_path / str(rate)
        changes = {"steps": 3, "save_every": 1, "keep_checkpoints": 3, "quantizer_lr": rate}
        train_tokenizer(tokenizer_config(run_dir, **changes))
        first, last = weights(run_dir)
        for name in ("quantizer.projection.weight", "quantizer.projection.bias"):
            assert torch.equal(first[f"model/{name}"], last[f"model/{name}"]) != learns
        kernel = "model/encoder.conv_in.weight"
        assert not torch.equal(first[kernel], last[kernel])
