"""A quantizer outside the package: that of docs/own-quantizer.md, how it is found, and what the contract catches."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from common.config import load_config, save_config
from stage1_tokenizer.images.tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import (
    VQ,
    CustomQuantizerConfig,
    Quantized,
    build_quantizer,
)
from stage1_tokenizer.quantizers.contract import check_quantizer

PAGE = Path(__file__).parents[2] / "docs" / "own-quantizer.md"
SMALL = ["image_size=16", "in_channels=1", "width=32", "multipliers=[1,1]", "blocks_per_level=1"]
MINE = [
    "quantizer.method=my_quantizer.Scaled",
    "quantizer.codebook_size=32",
    "quantizer.code_dim=4",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the page's `my_quantizer.py`, and is where Python finds modules."""
    (tmp_path / "my_quantizer.py").write_text(blocks()[0])
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_quantizer", None)


def blocks() -> list[str]:
    """The page's Python."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_pages_quantizer_keeps_the_contract(folder: Path) -> None:
    assert len(blocks()) == 2 and blocks()[0].count("\n") < 45
    exec("from my_quantizer import Scaled\n" + blocks()[1], {})


def test_it_is_named_by_its_path_and_comes_back_from_its_folder(folder: Path) -> None:
    config = load_config(ImageTokenizerConfig, None, [*SMALL, *MINE, "quantizer.beta=0.5"])
    model = ImageTokenizer(config).eval()
    assert type(model.quantizer).__name__ == "Scaled" and model.quantizer.config.beta == 0.5
    model.save_pretrained(folder / "model")
    again = ImageTokenizer.from_pretrained(folder / "model")
    assert again.config == config
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(again.encode(images), model.encode(images))


def test_the_command_finds_it_in_the_folder_that_it_runs_in(tmp_path: Path) -> None:
    (tmp_path / "my_quantizer.py").write_text(blocks()[0])
    script = tmp_path / "bin" / "simvq"
    script.parent.mkdir()
    script.write_text("from pipelines.cli import main\nmain()")
    model = "tokenizer.model.quantizer"
    words = [str(PAGE.parents[1] / "configs/smoke.yaml"), f"{model}.method=my_quantizer.Scaled"]
    ended = subprocess.run(
        [sys.executable, script, "train-tokenizer", *words, f"{model}.betta=1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PAGE.parents[1])},
        capture_output=True,
        text=True,
    )
    assert "did you mean 'beta'?" in ended.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("quantizer.betta=1", "there is no key 'quantizer.betta'; did you mean 'beta'?"),
        ("quantizer.beta=much", "quantizer.beta"),
        ("quantizer.method=my_quantiser.Scaled", "No module named 'my_quantiser'"),
        ("quantizer.method=my_quantizer.Scale", "has no attribute 'Scale'"),
        ("quantizer.method=my_quantizer.nn.Linear", "'my_quantizer' is not a package"),
        ("quantizer.method=torch.nn.Linear", "subclass of CustomQuantizerConfig"),
        ("quantizer.method=scaled", "is not one of simvq, vq"),
        ("quantizer.method=.my_quantizer.Scaled", "can't be imported"),
        ("quantizer.method=3.5", "can't be imported"),
    ],
)
def test_mistakes_are_told_in_words(folder: Path, change: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_config(ImageTokenizerConfig, None, [*SMALL, *MINE, change])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_code_in_a_models_folder_is_not_run(folder: Path) -> None:
    config = load_config(ImageTokenizerConfig, None, [*SMALL, *MINE])
    model, ran = folder / "model", folder / "ran"
    ImageTokenizer(config).save_pretrained(model)
    (model / "foreign.py").write_text(f"open({str(ran)!r}, 'w')\n" + blocks()[0])
    text = (model / "config.json").read_text()
    (model / "config.json").write_text(text.replace("my_quantizer.Scaled", "foreign.Scaled"))
    (model / "sha256.json").unlink()  # as one who means harm would leave it
    with pytest.raises(ValueError, match="No module named 'foreign'"):
        ImageTokenizer.from_pretrained(model)
    assert not ran.exists()


def test_a_config_of_no_quantizer_is_refused_in_words() -> None:
    @dataclass(frozen=True)
    class Unknown:
        code_dim: int = 4

    unchecked = getattr(build_quantizer, "__wrapped__", build_quantizer)  # tests check all types
    with pytest.raises(ValueError, match=r"Unknown is no quantizer's config"):
        unchecked(Unknown())
    with pytest.raises(ValueError, match=r"method='nowhere.Q' can't be imported"):
        build_quantizer(CustomQuantizerConfig(method="nowhere.Q", code_dim=4))


class OtherLookup(VQ):
    def lookup(self, codes: Tensor) -> Tensor:
        return 2 * super().lookup(codes) if torch.is_grad_enabled() else super().lookup(codes)


class NoGradient(VQ):
    def forward(self, latents: Tensor) -> Quantized:
        out = super().forward(latents)
        return Quantized(out.latents.detach(), out.codes, out.losses, out.inputs)


class ChangesInForward(VQ):
    def forward(self, latents: Tensor) -> Quantized:
        out = super().forward(latents)
        with torch.no_grad():
            self.table += 1
        return out


class BatchesAlone(VQ):
    def encode(self, latents: Tensor) -> Tensor:
        return super().encode(latents.reshape(len(latents), -1, latents.shape[-1]))


class ForgetsItsCodes(VQ):
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {
            name: torch.zeros_like(v) for name, v in super().state_dict(*args, **kwargs).items()
        }


class HalfPrecision(VQ):
    def forward(self, latents: Tensor) -> Quantized:
        out = super().forward(latents)
        return Quantized(out.latents.to(latents.dtype), out.codes, out.losses, out.inputs)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (OtherLookup, "lookup(k) must be codebook[k]"),
        (NoGradient, "no gradient reaches the encoder"),
        (ChangesInForward, "table must change in after_step alone"),
        (BatchesAlone, "encode must take latents of any shape"),
        (ForgetsItsCodes, "a reloaded quantizer gives other"),
        (HalfPrecision, "quantized latents must be float32"),
    ],
)
def test_the_contract_says_what_is_broken(kind: type[VQ], words: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_quantizer(lambda: kind(codebook_size=40, code_dim=6))
    assert words in str(caught.value)


def test_a_model_of_older_names_loads(tmp_path: Path) -> None:
    """SQ-VAE and HQA once had their count of steps under another name."""
    for method in ("sqvae", "hqa"):
        options = [
            f"quantizer.method={method}",
            "quantizer.codebook_size=8",
            "quantizer.code_dim=4",
        ]
        model = ImageTokenizer(load_config(ImageTokenizerConfig, None, [*SMALL, *options])).eval()
        for _ in range(3):
            model.quantizer.after_step()
        weights = model.state_dict()
        weights["quantizer.steps"] = weights.pop("quantizer.counter.steps")
        folder = tmp_path / method
        save_config(model.config, folder / "config.json")
        save_file(weights, folder / "model.safetensors")
        again = ImageTokenizer.from_pretrained(folder)
        assert again.quantizer.counter.steps == 3 == again.quantizer.counter.value
        weights["quantizer.other"] = weights.pop("quantizer.steps")
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(ValueError, match=r"quantizer.counter.steps, quantizer.other \(2 names"):
            ImageTokenizer.from_pretrained(folder)
