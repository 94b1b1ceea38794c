"""Exported graphs give what the pipeline gives: the same codes, the same output within 1e-4, the same samples."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import onnxruntime
import pytest
import torch
from helpers.pages import ROOT
from helpers.quantizer_cases import CASES, DIM
from helpers.saved import filled, restored
from PIL import Image
from torch import Tensor, nn

from common.config import load_config
from pipelines.cli import main
from pipelines.export import FREE, export, with_fixed_codebooks, write
from pipelines.export_graphs import (
    DepthStep,
    PriorStep,
    SpeechDecoding,
    SpeechEncoding,
    first_entries,
)
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.speech import SpeechGenerationPipeline
from stage1_tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import Quantizer, RQConfig
from stage1_tokenizer.quantizers.chunks import SCORES
from stage2_prior import Prior
from stage2_prior.config import PriorConfig
from stage2_prior.depth import DepthPrior

EXAMPLE = ROOT / "docs" / "onnx" / "sample.py"


def example() -> Any:
    """docs/onnx/sample.py as a module."""
    spec = importlib.util.spec_from_file_location("onnx_sample", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, name: str, **inputs: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    return session.run(None, {key: value.numpy() for key, value in inputs.items()})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("export")
    folder, _ = restored("images", root / "pipeline")
    main(["export", str(folder), str(root / "onnx")])
    return folder, root / "onnx"


@torch.no_grad()
def test_the_modules_are_the_tokenizers_before_they_are_graphs(tmp_path: Path) -> None:
    """Waveforms of any length, codes of any number: without chunks, lengths and complex numbers."""
    folder, _ = restored("speech", tmp_path)
    tokenizer = SpeechGenerationPipeline.from_pretrained(folder).tokenizer
    fixed = with_fixed_codebooks(tokenizer)
    for count in (1, 5, 23):
        waveforms = filled("waveforms", (2, count * tokenizer.config.hop))
        codes = tokenizer.encode(waveforms)
        assert torch.equal(SpeechEncoding(fixed)(waveforms), codes)
        torch.testing.assert_close(
            SpeechDecoding(fixed)(codes), tokenizer.decode(codes), atol=1e-5, rtol=0
        )


@torch.no_grad()
@pytest.mark.parametrize("order", ["raster", "random"])
@pytest.mark.parametrize("style", ["llama", "qwen3", "gpt2"])
def test_a_step_with_its_cache_gives_the_logits_of_the_whole(
    style: str, order: str, tmp_path: Path
) -> None:
    folder, _ = restored("images", tmp_path)
    keys = [f"style={style}", f"order={order}"]
    prior = Prior(load_config(PriorConfig, folder / "prior" / "config.json", keys)).eval()
    step, codes = PriorStep(prior), torch.randint(0, prior.config.codebook_size, (2, 3))
    conditions = prior.conditions(2, labels=[0, 1])
    expected = prior.logits(prior.hidden(conditions, codes)[:, -1], 3)
    entries = torch.cat([conditions, codes + len(prior.condition_embedding.weight)], dim=1)
    past = step.empty_past(2, places=0)
    for place in range(entries.shape[1]):
        logits, past = step(entries[:, place : place + 1, None], past)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def by_depth(order: str) -> ImageGenerationPipeline:
    """A pipeline of grids of 2 x 2 positions with two codes each, out of 8 and 8."""
    torch.manual_seed(0)
    quantizer = RQConfig(codebook_size=8, code_dim=4, levels=2)
    shape: dict[str, Any] = {"width": 32, "multipliers": (1, 2, 2), "blocks_per_level": 1}
    tokenizer = ImageTokenizer(ImageTokenizerConfig(image_size=8, quantizer=quantizer, **shape))
    sizes: dict[str, Any] = {"codebook_size": 8, "sizes": (8, 8), "levels_by": "depth"}
    config = PriorConfig(length=8, code_dim=4, size="1m", classes=3, order=order, **sizes)  # type: ignore[arg-type]
    return ImageGenerationPipeline(tokenizer, DepthPrior(config), ["a", "b", "c"])


@torch.no_grad()
@pytest.mark.parametrize("order", ["raster", "random"])
def test_a_step_by_depth_gives_the_logits_of_the_whole(order: str) -> None:
    prior = by_depth(order).prior
    assert isinstance(prior, DepthPrior)
    step, depth = PriorStep(prior), DepthStep(prior)
    codes, conditions = torch.randint(0, 8, (2, 8)), prior.conditions(2, labels=[0, 1])
    hidden = prior.hidden(conditions, codes)
    own = codes.view(2, 4, 2) + torch.tensor(first_entries(prior))
    nothing = torch.full((2, conditions.shape[1], 1), len(step.table) - 1)
    entries = torch.cat([torch.cat([conditions[..., None], nothing], 2), own[:, :3]], 1)
    past = step.empty_past(2, places=0)
    for place in range(entries.shape[1]):
        state, past = step(entries[:, place : place + 1], past)
    logits = depth(state, own[:, 3, :1])
    for level in range(2):
        expected = prior.logits(hidden[:, 3, level], 6 + level)
        torch.testing.assert_close(logits[:, level], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["raster", "random"])
def test_the_example_samples_by_depth_and_with_places(order: str, tmp_path: Path) -> None:
    pipeline = by_depth(order)
    pipeline.save_pretrained(tmp_path / "pipeline")
    # by itself: where types are checked, a size that is any size is no int
    words = ["-m", "pipelines", "export", str(tmp_path / "pipeline"), str(tmp_path / "onnx")]
    said = subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    assert b"decoder.onnx, depth.onnx, encoder.onnx, prior.onnx, pipeline.json" in said.stdout
    for label, seed, guidance in ((0, 4, 1.0), (2, 5, 2.0)):
        expected = pipeline([label], seeds=[seed], guidance=guidance)
        codes, _ = example().sample(tmp_path / "onnx", [label], seed, guidance)
        assert codes.tolist() == expected.codes.flatten().tolist()


def test_what_can_not_be_exported_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the folder of a pipeline"):
        export(tmp_path, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.slow
def test_the_graphs_of_images_give_the_same_codes_and_images(images: tuple[Path, Path]) -> None:
    folder, graphs = images
    pipeline = ImageGenerationPipeline.from_pretrained(folder)
    pixels = filled("images", (5, 3, 8, 8))
    (codes,) = run(graphs, "encoder", images=pixels)
    assert codes.tolist() == pipeline.tokenizer.encode(pixels).tolist()
    (output,) = run(graphs, "decoder", codes=torch.from_numpy(codes))
    decoded = pipeline.tokenizer.decode(torch.from_numpy(codes)).numpy()
    assert np.abs(output - decoded).max() < 1e-4


class Coding(nn.Module):
    """A quantizer's codes of vectors, and their vectors."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.quantizer.encode(latents)
        return codes, self.quantizer.lookup(codes)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_other_quantizers_search_in_a_graph_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    quantizer = CASES[name].make().eval()
    monkeypatch.setitem(SCORES, "cpu", 64)  # outside of a graph, vectors come in chunks
    quantizer.init_from(torch.randn(1024, DIM))
    latents = torch.randn(7, 3, DIM)
    path = tmp_path / "quantizer.onnx"
    names = ["latents"], ["codes", "vectors"]
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # any size is no size there
    write(Coding(quantizer), [latents[:2]], path, *names, [{0: FREE}])
    codes, vectors = run(tmp_path, "quantizer", latents=latents)
    assert codes.tolist() == quantizer.encode(latents).tolist()
    expected = quantizer.lookup(torch.from_numpy(codes)).detach().numpy()
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.slow
def test_the_example_samples_the_same_without_torch(
    images: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, graphs = images
    pipeline = ImageGenerationPipeline.from_pretrained(folder)
    module = example()
    with pytest.raises(SystemExit, match="3 is out of range: give 0 to 2"):
        module.sample(graphs, [3], 0)
    for label, seed, guidance in ((0, 4, 1.0), (2, 5, 2.0), (1, 2**31, 2.0)):
        expected = pipeline([label], seeds=[seed], guidance=guidance)
        codes, _ = module.sample(graphs, [label], seed, guidance)
        assert codes.tolist() == expected.codes.flatten().tolist()
    forbid = "import sys; sys.modules['torch'] = None; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", forbid, str(EXAMPLE), str(graphs), "1", str(2**31), "2"]
    subprocess.run(words, cwd=tmp_path, check=True)
    own = np.asarray(Image.open(tmp_path / f"1-{2**31}.png"), dtype=int)
    assert np.abs(own - np.asarray(expected.images[0], dtype=int)).max() <= 1


@pytest.mark.slow
def test_the_graphs_of_speech_give_the_same_codes_waveforms_and_samples(tmp_path: Path) -> None:
    folder, _ = restored("speech", tmp_path / "pipeline")
    # by itself: where types are checked, a size that is any size is no int
    words = ["-m", "pipelines", "export", str(folder), str(tmp_path / "onnx")]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    pipeline = SpeechGenerationPipeline.from_pretrained(folder)
    for count in (7, 12, 31):
        waveforms = filled("waveforms", (3, count * pipeline.tokenizer.config.hop))
        (codes,) = run(tmp_path / "onnx", "encoder", waveform=waveforms)
        assert codes.tolist() == pipeline.tokenizer.encode(waveforms).tolist()
        (output,) = run(tmp_path / "onnx", "decoder", codes=torch.from_numpy(codes))
        decoded = pipeline.tokenizer.decode(torch.from_numpy(codes)).numpy()
        assert np.abs(output - decoded).max() < 1e-4
    expected = pipeline([2], [1], seeds=[7], guidance=2.0).codes[0]
    codes, _ = example().sample(tmp_path / "onnx", [2, 1], 7, 2.0)
    assert codes.tolist() == expected.tolist()
