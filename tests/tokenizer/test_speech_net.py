"""The speech networks against the authors' modules, transformers' EnCodec, and themselves."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecEncoder

from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.import_checkpoint import import_official, speech_tokenizer
from stage1_tokenizer.speech.decoder import Decoder, GroupNorm, PositionNet
from stage1_tokenizer.speech.net import Encoder, reflect_pad

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"{PARITY} is absent")


@needs_parity
def test_every_intermediate_is_the_authors() -> None:
    saved = load_file(PARITY / "speech.safetensors")
    weights = {
        name.removeprefix("weights/"): tensor
        for name, tensor in saved.items()
        if name.startswith("weights/") and not name.endswith("istft.window")
    }
    model = speech_tokenizer(weights, causal=True)
    waveform = saved["input"][:, 0]
    ends = torch.tensor([37, 37])
    with torch.no_grad():
        latents = model.latents(waveform)
        reconstruction, quantized = model(waveform)
        backbone = model.decoder.backbone
        features = backbone.local(backbone.positions(quantized.latents, ends), ends)
    torch.testing.assert_close(latents, saved["latent"], atol=1e-4, rtol=0)
    assert torch.equal(quantized.codes, saved["indices"].reshape(2, 37))
    torch.testing.assert_close(quantized.latents, saved["quantized"], atol=1e-4, rtol=0)
    torch.testing.assert_close(quantized.loss, saved["quantizer_loss"][0], atol=1e-8, rtol=1e-4)
    torch.testing.assert_close(features, saved["backbone_output"], atol=1e-4, rtol=0)
    torch.testing.assert_close(reconstruction, saved["waveform"], atol=1e-4, rtol=0)


@needs_parity
def test_an_official_checkpoint_gives_the_expected_codes_and_samples(tmp_path) -> None:
    expected = load_file(PARITY / "speech_expected.safetensors")
    model = SpeechTokenizer.from_pretrained(import_official(PARITY / "speech.ckpt", tmp_path / "m"))
    codes = model.encode(expected["input"][:, 0])
    assert torch.equal(codes, expected["codes"])
    torch.testing.assert_close(model.decode(codes), expected["output"], atol=1e-4, rtol=0)


@needs_parity
def test_causality_is_what_the_caller_says(tmp_path) -> None:
    import_official(PARITY / "speech.ckpt", tmp_path / "m", causal=False)
    assert SpeechTokenizer.from_pretrained(tmp_path / "m").config.causal is False


def test_another_checkpoint_is_refused_in_words(tmp_path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="is not a tokenizer of SimVQ's authors"):
        import_official(tmp_path / "other.ckpt", tmp_path / "m")


@pytest.mark.parametrize("causal", [True, False])
def test_encoder_is_encodecs(causal: bool) -> None:
    """transformers' own SEANet with our weights gives our latents."""
    ours = Encoder(4, (5, 3, 2), 2, 8, causal).eval()
    config = EncodecConfig(
        num_filters=4,
        upsampling_ratios=[5, 3, 2],
        hidden_size=8,
        num_lstm_layers=2,
        use_causal_conv=causal,
        norm_type="weight_norm",
    )
    theirs = EncodecEncoder(config).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), _in_order(ours), strict=True)))
    waveform = 0.3 * torch.randn(2, 30 * 11)
    with torch.no_grad():
        torch.testing.assert_close(ours(waveform, None), theirs(waveform[:, None]))


def _in_order(encoder: Encoder) -> list[torch.Tensor]:
    """Our weights in the order of EnCodec's list."""
    parts = [encoder.conv_in]
    for level in encoder.levels:
        parts += [level.res.conv1, level.res.conv2, level.res.skip, level.down]
    return [
        tensor
        for part in (*parts, encoder.lstm, encoder.conv_out)
        for tensor in part.state_dict().values()
    ]


@pytest.mark.parametrize("left, right, size", [(3, 2, 9), (6, 0, 2), (2, 2, 1), (0, 3, 2)])
def test_reflection_ends_where_the_item_ends(left: int, right: int, size: int) -> None:
    alone = torch.randn(1, 2, size)
    padded = torch.cat([alone, torch.randn(1, 2, 5)], dim=-1)
    expected = reflect_pad(alone, left, right, None)
    found = reflect_pad(padded, left, right, torch.tensor([size]))
    assert torch.equal(found[..., : left + size + right], expected)
    assert not found[..., left + size + right :].any()
    if size > max(left, right):
        assert torch.equal(expected, torch.nn.functional.pad(alone, (left, right), mode="reflect"))


@pytest.mark.parametrize("left, right, size", [(6, 0, 20), (6, 0, 3), (2, 1, 9), (2, 0, 1)])
def test_mirrored_borders_are_torchs_own(left: int, right: int, size: int) -> None:
    """Of an item too short to mirror, with zeros after it; values and gradients bit for bit."""
    x = torch.randn(2, 3, size, requires_grad=True)
    weights = torch.randn(2, 3, left + size + right)
    filled = torch.nn.functional.pad(x, (0, max(left + 1 - size, 0)))
    theirs = torch.nn.functional.pad(filled, (left, right), mode="reflect")[
        ..., : left + size + right
    ]
    ours = reflect_pad(x, left, right, None)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("causal", [True, False])
def test_chunks_of_the_encoder_make_no_difference(causal: bool) -> None:
    encoder = Encoder(4, (4, 3, 2), 1, 8, causal).eval()
    waveform = 0.3 * torch.randn(2, 24 * 40)
    lengths = torch.tensor([40, 23])
    with torch.no_grad():
        whole = encoder(waveform, lengths)
        for chunk in (7, 16):
            found = encoder(waveform, lengths, chunk)
            torch.testing.assert_close(found[0], whole[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(found[1, :, :23], whole[1, :, :23], atol=1e-5, rtol=0)


def test_masked_group_norm_is_torchs_over_the_items_own_frames() -> None:
    norm = GroupNorm(64)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 64, 9)
    found = norm(x, torch.tensor([9, 4]))
    for item, size in ((0, 9), (1, 4)):
        expected = torch.nn.functional.group_norm(
            x[item : item + 1, :, :size], 32, norm.weight, norm.bias, eps=1e-6
        )
        torch.testing.assert_close(found[item : item + 1, :, :size], expected)


def test_windows_of_the_attention() -> None:
    """Up to a window nothing is new; behind it, items of a batch are still as they are alone."""
    net = PositionNet(64, 8).eval()
    x = torch.randn(1, 64, 29)
    with torch.no_grad():
        batch = net(x.expand(5, -1, -1), torch.tensor([29, 5, 8, 9, 13]))
        for found, size in zip(batch, (29, 5, 8, 9, 13), strict=True):
            alone = net(x[..., :size], torch.tensor([size]))
            torch.testing.assert_close(found[None, :, :size], alone, atol=1e-5, rtol=1e-5)
        net.window = 30
        whole = net(x, torch.tensor([29]))
        assert (whole - batch[:1]).abs().max() > 1e-3  # the windows did something


def test_the_head_inverts_an_stft() -> None:
    """Given magnitude and phase of a signal's frames, the samples are the signal's."""
    decoder = Decoder(8, 64, 96, 1, 8, n_fft=16, hop=4)
    head = decoder.head
    signal = torch.randn(1, 40)
    framed = torch.nn.functional.pad(signal, (6, 6)).unfold(1, 16, 4) * head.window
    spectrum = torch.fft.rfft(framed)
    features = torch.cat([spectrum.abs().log(), spectrum.angle()], dim=-1)
    head.out = torch.nn.Identity()
    found = head(features, torch.tensor([10]))
    torch.testing.assert_close(found, signal, atol=1e-4, rtol=1e-4)


def test_the_head_is_finite_for_any_magnitude() -> None:
    head = Decoder(8, 64, 96, 1, 8, n_fft=16, hop=4).head
    head.out = torch.nn.Identity()
    features = torch.tensor([1e-30, 90.0, 1e4, -1e4]).repeat_interleave(18).reshape(1, 4, 18)
    features.requires_grad_()
    waveform = head(features, torch.tensor([4]))
    waveform.sum().backward()
    assert waveform.isfinite().all() and features.grad.isfinite().all()
