"""LC: a codebook of features from a file, or of centres."""

from pathlib import Path

import pytest
import torch
from helpers.quantizer_cases import normal
from safetensors.torch import save_file

from stage1_tokenizer.quantizers import LC, LCConfig


def test_lc_without_a_file_starts_with_centres_of_the_latents() -> None:
    lc = LC(codebook_size=3, code_dim=4)
    centres = 30 * torch.eye(4)[:3]
    latents = centres.repeat(50, 1) + 0.1 * normal(150, 4)
    lc.init_from(latents)
    codes = lc.encode(latents)
    for code in codes.unique():
        torch.testing.assert_close(lc.codebook[code], latents[codes == code].mean(0))
    torch.testing.assert_close(lc.codebook, lc.basis)


def test_lc_reads_features_and_learns_the_projector_alone(tmp_path: Path) -> None:
    features = 5 + normal(40, 10)
    save_file({"features": features}, tmp_path / "f.safetensors")
    lc = LC(codebook_size=40, code_dim=4, features=str(tmp_path / "f.safetensors"), feature_dim=10)
    latents = 2 - 3 * normal(500, 4)
    lc.init_from(latents)
    assert torch.equal(lc.basis, features)
    torch.testing.assert_close(lc.codebook.mean(0), latents.mean(0), atol=1e-4, rtol=1e-4)
    assert {name for name, _ in lc.named_parameters()} == {"projection.weight", "projection.bias"}
    (tmp_path / "f.safetensors").unlink()  # the weights hold them
    twin = LC(codebook_size=40, code_dim=4, features="gone", feature_dim=10)
    twin.load_state_dict(lc.state_dict())
    assert torch.equal(twin.codebook, lc.codebook)


def test_mistakes_of_lc_are_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"model\.quantizer\.feature_dim"):
        LCConfig(features="f.safetensors")
    with pytest.raises(ValueError, match=r"is not a file"):
        LC(features="f.safetensors", feature_dim=3).init_from(torch.zeros(9, 8))
    path = tmp_path / "f.safetensors"
    save_file({"features": torch.zeros(5, 3)}, path)
    with pytest.raises(ValueError, match=r"\(5, 3\), not \(1024, 3\)"):
        LC(features=str(path), feature_dim=3).init_from(torch.zeros(9, 8))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"\(5, 3\), not \(1024, 3\)"):
        LC(features="~/f.safetensors", feature_dim=3).init_from(torch.zeros(9, 8))
    save_file({"other": torch.zeros(5, 3)}, path)
    with pytest.raises(ValueError, match=r'no tensor "features"'):
        LC(features=str(path), feature_dim=3).init_from(torch.zeros(9, 8))
    path.write_text("no safetensors file, but a longer text")
    with pytest.raises(ValueError, match=r"can't be read .*: set model\.quantizer\.features"):
        LC(features=str(path), feature_dim=3).init_from(torch.zeros(9, 8))
