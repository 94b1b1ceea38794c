"""ImageTokenizer: the authors' numbers, import of their checkpoints, sizes, saving and loading."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file

from stage1_tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.import_checkpoint import image_tokenizer, import_official
from stage1_tokenizer.quantizers import SimVQConfig


def tiny(**changes: object) -> ImageTokenizer:
    torch.manual_seed(0)
    options: dict[str, object] = {
        "image_size": 16,
        "width": 32,
        "multipliers": (1, 1, 2),
        "blocks_per_level": 1,
        "quantizer": SimVQConfig(codebook_size=40, code_dim=6),
    }
    return ImageTokenizer(ImageTokenizerConfig(**{**options, **changes})).eval()  # type: ignore[arg-type]


def test_the_authors_modules_numbers(shared: Path) -> None:
    known = load_file(shared / "parity" / "image.safetensors")
    prefix = "weights/"
    weights = {k.removeprefix(prefix): v for k, v in known.items() if k.startswith(prefix)}
    tokenizer = image_tokenizer(weights)
    close = {"atol": 1e-5, "rtol": 1e-5}
    latents = tokenizer.latents(known["input"])
    torch.testing.assert_close(latents, known["latent"], **close)
    # the quantizer from the authors' own latents, so that only its own rounding is compared
    z = known["latent"].clone().requires_grad_()
    out = tokenizer.quantizer(rearrange(z, "b d h w -> b (h w) d"))
    assert torch.equal(rearrange(out.codes, "b (h w) -> b h w", h=8), known["indices"])
    assert torch.equal(tokenizer.encode(known["input"]), known["indices"])
    grid = rearrange(out.latents, "b (h w) d -> b d h w", h=8)
    torch.testing.assert_close(grid, known["quantized"], **close)
    torch.testing.assert_close(out.loss, known["quantizer_loss"].squeeze(), **close)
    out.loss.backward()
    torch.testing.assert_close(z.grad, known["grad_latent"], **close)
    projection = tokenizer.quantizer.projection
    torch.testing.assert_close(projection.weight.grad, known["grad_proj_weight"], **close)
    torch.testing.assert_close(projection.bias.grad, known["grad_proj_bias"], **close)
    reconstruction, _ = tokenizer(known["input"])
    torch.testing.assert_close(reconstruction, known["reconstruction"], **close)
    decoded = tokenizer.decode(known["indices"])
    torch.testing.assert_close(decoded, known["reconstruction"], **close)


def test_an_authors_checkpoint_is_imported(shared: Path, tmp_path: Path) -> None:
    import_official(shared / "parity" / "image.ckpt", tmp_path / "model")
    tokenizer = ImageTokenizer.from_pretrained(tmp_path / "model")
    expected = load_file(shared / "parity" / "image_expected.safetensors")
    codes = tokenizer.encode(expected["input"])
    assert torch.equal(codes.flatten(1), expected["codes"])
    torch.testing.assert_close(tokenizer.decode(codes), expected["output"], atol=1e-4, rtol=0)


ODD = {name: torch.zeros(2, 2) for name in ("encoder.conv_in.weight", "quantize.embedding.weight")}


def test_what_import_refuses_is_told_in_words(tmp_path: Path) -> None:
    for content, words in [
        ({"state_dict": {}, "callbacks": Fraction(1, 2)}, "more than tensors"),
        ({"weights": {}}, "no state_dict"),
        ({"state_dict": [torch.zeros(1)]}, "no state_dict"),
        ({"state_dict": {"encoder.x": torch.zeros(1)}}, "not a tokenizer of SimVQ"),
        ({"state_dict": ODD}, "not a tokenizer of SimVQ"),
        ({"state_dict": ODD | {"encoder.conv_in.weight": 3}}, "not a tokenizer of SimVQ"),
    ]:
        path = tmp_path / "some.ckpt"
        torch.save(content, path)
        with pytest.raises(ValueError, match=words):
            import_official(path, tmp_path / "model")
    for damaged in (b"", b"not a checkpoint", b"text\n", b"\x80\x02]q\x00.", b"cos\nsystem\n."):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            import_official(path, tmp_path / "model")
    with pytest.raises(ValueError, match="is not a file"):
        import_official(tmp_path / "absent.ckpt", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 16, 16), (1, 8, 24), (3, 4, 20)])
def test_any_size_that_the_factor_divides(channels: int, height: int, width: int) -> None:
    tokenizer = tiny(in_channels=channels)
    images = torch.rand(2, channels, height, width) * 2 - 1
    codes = tokenizer.encode(images)
    assert codes.shape == (2, height // 4, width // 4) and codes.dtype == torch.int64
    with torch.no_grad():
        reconstruction, quantized = tokenizer(images)
    torch.testing.assert_close(tokenizer.decode(codes), reconstruction)
    assert torch.equal(quantized.codes.reshape(codes.shape), codes)


def test_a_wrong_size_or_code_is_told_in_words() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        tiny().encode(torch.zeros(1, 3, 18, 16))
    with pytest.raises(ValueError, match="3 channels"):
        tiny().encode(torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match="must lie in 0 to 39"):
        tiny().decode(torch.full((1, 4, 4), 40))
    with pytest.raises(ValueError, match=r"model\.image_size"):
        ImageTokenizerConfig(image_size=30)
    with pytest.raises(ValueError, match=r"model\.width"):
        ImageTokenizerConfig(width=48)


def test_save_and_load_bring_everything_back(tmp_path: Path) -> None:
    tokenizer = tiny()
    tokenizer.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "sha256.json",
    ]
    loaded = ImageTokenizer.from_pretrained(tmp_path / "model")
    assert loaded.config == tokenizer.config and not loaded.training
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(loaded.encode(images), tokenizer.encode(images))
    assert torch.equal(loaded.codebook, tokenizer.codebook)


def test_loading_refuses_what_does_not_fit(tmp_path: Path) -> None:
    tokenizer = tiny()
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if k != "quantizer.basis"}, tmp_path / "model.safetensors"
    )
    with pytest.raises(ValueError, match=r"model\.safetensors is not as it was written"):
        ImageTokenizer.from_pretrained(tmp_path)
    (tmp_path / "sha256.json").unlink()
    with pytest.raises(ValueError, match=r"quantizer\.basis"):
        ImageTokenizer.from_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"depth": 3}))
    (tmp_path / "sha256.json").unlink()
    with pytest.raises(ValueError, match="'depth'"):
        ImageTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="neither a folder nor"):
        ImageTokenizer.from_pretrained("./absent")


def test_reconstruct_is_decode_of_encode_under_autocast() -> None:
    torch.manual_seed(0)
    tokenizer = tiny()
    images = torch.rand(8, 3, 16, 16) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        expected = tokenizer.decode(tokenizer.encode(images))
        assert torch.equal(tokenizer.reconstruct(images), expected)


def test_half_precision_weights_still_search_in_float32() -> None:
    tokenizer = tiny().bfloat16()
    images = (torch.rand(1, 3, 16, 16) * 2 - 1).bfloat16()
    latents = rearrange(tokenizer.latents(images), "b d h w -> b h w d")
    codes, latents = tokenizer.quantizer.encode(latents), latents.float()
    distances = torch.cdist(latents.flatten(0, 2).double(), tokenizer.codebook.double())
    assert torch.equal(codes.flatten(), distances.argmin(1))
    assert tokenizer.decode(codes).dtype == tokenizer(images)[0].dtype == torch.bfloat16
    for call in (tokenizer.encode, tokenizer.reconstruct):  # their codes would be others
        with pytest.raises(ValueError, match="load it again, and leave it in float32"):
            call(images)
