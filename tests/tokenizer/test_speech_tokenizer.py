"""The speech tokenizer: lengths, batches, chunks, odd inputs, gradients."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_tokenizer import SpeechTokenizer, SpeechTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig

CONFIG = SpeechTokenizerConfig(
    sample_rate=8000,
    ratios=(5, 4, 2),
    width=4,
    lstm_layers=1,
    decoder_width=64,
    decoder_hidden=96,
    decoder_layers=2,
    decoder_window=16,
    n_fft=160,
    quantizer=SimVQConfig(codebook_size=64, code_dim=16),
)
HOP = CONFIG.hop


def tokenizer(**changes: object) -> SpeechTokenizer:
    """A small tokenizer whose codes differ: an untrained one needs `init_from` for that."""
    torch.manual_seed(0)
    model = SpeechTokenizer(dataclasses.replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        latents = model.latents(torch.randn(2, 50 * HOP))
        model.quantizer.init_from(latents.mT)
    return model


MODEL = tokenizer()


def speechlike(*shape: int) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3 * HOP + 1))
def test_a_round_trip_is_length_exact(samples: int) -> None:
    waveform = speechlike(1, samples)
    codes = MODEL.encode(waveform)
    assert codes.shape == (1, -(-samples // HOP)) and codes.dtype == torch.int64
    assert MODEL.decode(codes).shape == (1, codes.shape[1] * HOP)
    assert MODEL.reconstruct(waveform).shape == waveform.shape


def test_decode_of_encode_is_forward() -> None:
    waveform = speechlike(2, 13 * HOP - 7)
    with torch.no_grad():
        reconstruction, quantized = MODEL(waveform)
    codes = MODEL.encode(waveform)
    assert torch.equal(codes, quantized.codes) and len(codes.unique()) > 3
    torch.testing.assert_close(MODEL.reconstruct(waveform), reconstruction, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_a_padded_batch_gives_each_item_as_it_is_alone(causal: bool) -> None:
    model = tokenizer(causal=causal)
    sizes = [1, 37, HOP, 3 * HOP + 1, 16 * HOP, 25 * HOP - 3]
    lengths = torch.tensor(sizes)
    waveform = speechlike(len(sizes), max(sizes))  # padding is noise: it must not be read
    codes = model.encode(waveform, lengths)
    decoded = model.reconstruct(waveform, lengths)
    with torch.no_grad():
        forward, quantized = model(waveform, lengths)
    assert torch.equal(quantized.codes, codes)
    torch.testing.assert_close(forward, decoded, atol=1e-5, rtol=1e-4)
    for i, size in enumerate(sizes):
        alone = waveform[i : i + 1, :size]
        n = -(-size // HOP)
        assert torch.equal(codes[i, :n], model.encode(alone)[0])
        assert (codes[i, n:] == -1).all()
        torch.testing.assert_close(
            decoded[i, :size], model.reconstruct(alone)[0], atol=1e-5, rtol=1e-4
        )
        assert not decoded[i, size:].any()


def test_padding_adds_nothing_to_the_losses() -> None:
    waveform = speechlike(1, 4 * HOP)
    padded = torch.nn.functional.pad(waveform, (0, 9 * HOP))
    alone, batched = MODEL(waveform)[1], MODEL(padded, torch.tensor([4 * HOP]))[1]
    torch.testing.assert_close(batched.loss, alone.loss)


@pytest.mark.parametrize("causal", [True, False])
def test_chunked_equals_whole(causal: bool) -> None:
    """Everywhere, not only away from the edges: the overlap covers what the layers can see."""
    model = tokenizer(causal=causal)
    waveform = speechlike(2, 60 * HOP - 5)
    lengths = torch.tensor([60 * HOP - 5, 31 * HOP])
    whole = model.encode(waveform, lengths, chunk=10**6)
    for chunk in (8, 19, 59):
        assert torch.equal(model.encode(waveform, lengths, chunk=chunk), whole)
    counts = model.counts(lengths)
    decoded = model.decode(whole, counts, chunk=10**6)
    for chunk in (8, 19, 59):
        found = model.decode(whole, counts, chunk=chunk)
        torch.testing.assert_close(found, decoded, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "waveform",
    [
        torch.zeros(1, 5 * HOP),
        1e-8 * speechlike(1, 5 * HOP),
        torch.sign(speechlike(1, 5 * HOP)),
        torch.full((1, 5 * HOP), 0.7),
        torch.full((1, 1), 0.5),
        100 * speechlike(1, 5 * HOP),
    ],
    ids=["silence", "near-silence", "clipping", "DC", "one sample", "far too loud"],
)
def test_odd_inputs_are_finite_with_their_gradients(waveform: torch.Tensor) -> None:
    model = tokenizer().train()
    reconstruction, quantized = model(waveform)
    ((reconstruction - waveform).abs().mean() + quantized.loss).backward()
    assert reconstruction.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_gradient_reaches_the_encoder_through_the_quantizer() -> None:
    model = tokenizer().train()
    reconstruction, _ = model(speechlike(1, 5 * HOP))
    reconstruction.square().sum().backward()
    assert model.encoder.conv_in.conv.parametrizations.weight.original1.grad.abs().max() > 0
    assert (
        model.quantizer.projection.weight.grad is None
        or not model.quantizer.projection.weight.grad.any()
    )


def test_quantizer_and_head_stay_in_float32_under_bf16() -> None:
    waveform = speechlike(1, 6 * HOP)
    with torch.no_grad():
        latents = MODEL.latents(waveform).mT
        features, ends = torch.randn(1, 6, 64), torch.tensor([6])
        plain = MODEL.decoder.head(features, ends)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(MODEL.decoder.head(features, ends), plain)
            assert torch.equal(MODEL.quantizer(latents).codes, MODEL.quantizer.encode(latents))
            reconstruction, quantized = MODEL(waveform)
    assert reconstruction.dtype == quantized.latents.dtype == torch.float32
    assert reconstruction.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [30, 150])
def test_weights_in_half_precision_decode(dtype: torch.dtype, count: int) -> None:
    """Nearly as those in float32 do, of clips longer than what the attention sees at once, too."""
    codes = torch.arange(2 * count).reshape(2, count) % CONFIG.quantizer.codebook_size
    expected, found = MODEL.decode(codes), copy.deepcopy(MODEL).to(dtype).decode(codes)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()
    half = copy.deepcopy(MODEL).to(dtype)
    assert half(speechlike(1, 3 * HOP).to(dtype))[0].isfinite().all()


def test_reconstruct_is_decode_of_encode_under_autocast() -> None:
    waveform = speechlike(4, 6 * HOP)
    with torch.autocast("cpu", torch.bfloat16):
        expected = MODEL.decode(MODEL.encode(waveform))
        assert torch.equal(MODEL.reconstruct(waveform), expected)


def test_it_is_saved_and_loaded(tmp_path) -> None:
    MODEL.save_pretrained(tmp_path / "m")
    loaded = SpeechTokenizer.from_pretrained(tmp_path / "m")
    assert loaded.config == MODEL.config
    waveform = speechlike(1, 7 * HOP)
    assert torch.equal(loaded.reconstruct(waveform), MODEL.reconstruct(waveform))


@pytest.mark.parametrize(
    "sample_rate, ratios, n_fft",
    [(8000, (5, 4, 4), 320), (16_000, (8, 5, 4, 2), 1280), (44_100, (7, 7, 3, 3), 1764)],
)
def test_other_rates(sample_rate: int, ratios: tuple[int, ...], n_fft: int) -> None:
    model = tokenizer(sample_rate=sample_rate, ratios=ratios, n_fft=n_fft)
    waveform = speechlike(1, sample_rate // 10)
    assert model.encode(waveform).shape[1] == -(-waveform.shape[1] // model.config.hop)
    assert model.reconstruct(waveform).shape == waveform.shape


def test_the_papers_size() -> None:
    """Million parameters, as counted in the authors' model, without its unused decoder."""
    with torch.device("meta"):
        model = SpeechTokenizer(SpeechTokenizerConfig())
    counts = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (
            ("encoder", model.encoder),
            ("backbone", model.decoder.backbone),
            ("head", model.decoder.head),
        )
    }
    assert {name: round(count / 1e6, 1) for name, count in counts.items()} == {
        "encoder": 8.8,
        "backbone": 61.9,
        "head": 1.0,
    }


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"n_fft": 100}, "n_fft=100 must be even and a multiple of the hop 40"),
        ({"n_fft": 40}, "set model.n_fft, to 160"),
        ({"decoder_width": 48}, "decoder_width=48 must be a multiple of 32"),
        ({"ratios": ()}, "must have at least one factor: set model.ratios"),
        ({"decoder_window": 15}, "must be even"),
    ],
)
def test_a_wrong_config_is_told_in_words(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CONFIG, **changes)


def test_wrong_calls_are_told_in_words() -> None:
    with pytest.raises(ValueError, match="no samples"):
        MODEL.encode(torch.zeros(1, 0))
    with pytest.raises(ValueError, match="there are none to decode"):
        MODEL.decode(torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match="codes from 0 to 64 must lie in 0 to 63"):
        MODEL.decode(torch.tensor([[0, 64]]))
    with pytest.raises(ValueError, match=r"lengths=\[9\] must be 1 integers from 1 to 8"):
        MODEL.encode(torch.zeros(1, 8), torch.tensor([9]))
    many = torch.tensor([2**15 - 1], dtype=torch.int16)
    assert MODEL.counts(many).tolist() == [-(-(2**15 - 1) // HOP)]
