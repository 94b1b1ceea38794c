"""Mel distances and adversarial terms: known answers, torchaudio's spectrograms, silence."""

import pytest
import torch
import torch.nn.functional as F
from torchaudio.transforms import MelSpectrogram

from common.config import build
from stage1_tokenizer.speech.discriminator import (
    SpeechDiscriminator,
    SpeechDiscriminatorConfig,
    normalise_peak,
)
from stage1_tokenizer.speech.losses import (
    SCALES,
    MelDistance,
    SpeechLossConfig,
    discriminator_losses,
    feature_matching,
    generator_losses,
)

SMALL = SpeechDiscriminatorConfig(
    periods=(2, 3),
    period_width=2,
    resolutions=(64, 32),
    resolution_width=4,
    bands=(64, 32),
    band_width=4,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_there_are_seven_scales() -> None:
    found = [(scale.n_fft, scale.hop, scale.mels) for scale in SCALES["multi"]]
    assert found == [
        (32, 8, 5),
        (64, 16, 10),
        (128, 32, 20),
        (256, 64, 40),
        (512, 128, 80),
        (1024, 256, 160),
        (2048, 512, 320),
    ]


def test_single_scale_is_torchaudios_spectrogram() -> None:
    mel = MelSpectrogram(24_000, n_fft=1024, hop_length=256, n_mels=100, power=1)
    x, y = noise(2, 5000), noise(2, 5000, seed=1)
    expected = (mel(x).clamp(min=1e-7).log() - mel(y).clamp(min=1e-7).log()).abs().mean()
    torch.testing.assert_close(MelDistance(24_000, "single")(x, y), expected)


def test_multi_scale_is_a_sum_over_torchaudios_spectrograms() -> None:
    x, y = noise(2, 5000), noise(2, 5000, seed=1)
    expected = torch.zeros(())
    for i in range(5, 12):
        mel = MelSpectrogram(
            16_000,
            n_fft=2**i,
            hop_length=2 ** (i - 2),
            n_mels=5 * 2 ** (i - 5),
            power=1,
            norm="slaney",
            mel_scale="slaney",
        )
        a, b = (mel(w).clamp(min=1e-5).log10() for w in (x, y))
        expected += (a - b).abs().mean()
    torch.testing.assert_close(MelDistance(16_000)(x, y), expected)


@pytest.mark.parametrize("kind", ["multi", "single"])
def test_the_distance_is_a_distance(kind) -> None:
    distance = MelDistance(16_000, kind)
    x, y, z = (noise(2, 3000, seed=seed) for seed in range(3))
    assert distance(x, x) == 0
    torch.testing.assert_close(distance(x, y), distance(y, x))
    assert 0 < distance(x, y) <= distance(x, z) + distance(z, y)
    # Half the amplitude: log10(2) at each scale, log(2) at the authors'.
    expected = 7 * torch.tensor(2.0).log10() if kind == "multi" else torch.tensor(2.0).log()
    torch.testing.assert_close(distance(x / 2, x), expected, atol=1e-4, rtol=1e-4)


def test_frames_past_the_end_do_not_count() -> None:
    distance = MelDistance(8000)
    x = F.pad(noise(2, 2000), (0, 6000))
    lengths = torch.tensor([2000, 2000])
    found = distance(x / 2, x, lengths)
    # Only the frames that hang over the end, and their floor, keep it from 7 log10(2).
    assert found == pytest.approx(7 * 0.30103, rel=0.05)
    assert distance(x / 2, x) < 0.5 * found


@pytest.mark.parametrize("amplitude", [0.0, 1e-8, 1e-3, 1.0])
def test_gradients_at_silence_are_finite_and_bounded(amplitude: float) -> None:
    torch.manual_seed(0)
    discriminator = SpeechDiscriminator(SMALL)
    made = (amplitude * noise(1, 2000)).requires_grad_()
    target = torch.zeros(1, 2000)
    losses = generator_losses(discriminator(target), discriminator(made))
    total = MelDistance(8000)(made, target) + losses["adversarial"] + losses["feature"]
    total.backward()
    assert made.grad.isfinite().all() and made.grad.norm() < 1e4


def test_one_sample_can_be_scored_and_compared() -> None:
    discriminator, x = SpeechDiscriminator(SMALL), torch.full((1, 1), 0.5, requires_grad=True)
    losses = generator_losses(discriminator(torch.zeros(1, 1)), discriminator(x))
    total = losses["adversarial"] + losses["feature"] + MelDistance(8000)(x, torch.zeros(1, 1))
    total.backward()
    assert total.isfinite() and x.grad.isfinite().all()


def test_peaks_are_at_four_fifths_down_to_the_floor() -> None:
    x = noise(3, 100) + 0.2
    normed = normalise_peak(x)
    torch.testing.assert_close(normed.abs().amax(1), torch.full((3,), 0.8))
    torch.testing.assert_close(normed.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
    quiet = 1e-6 * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(normalise_peak(quiet), 80 * quiet)


def test_terms_have_their_known_values() -> None:
    score, other = torch.tensor([0.5, -2.0]), torch.tensor([3.0, 0.0])
    real, fake = ([(score, [score])], [(other, [other])])
    # hinge: relu(1 - real) = .5, 3; relu(1 + fake) = 4, 1. least squares: .25, 9; 9, 0
    assert discriminator_losses({"period": real}, {"period": fake})["period"] == 1.75 + 2.5
    assert discriminator_losses({"band": real}, {"band": fake})["band"] == 4.625 + 4.5
    # twice the same: periods are averaged, bands summed
    assert discriminator_losses({"period": real * 2}, {"period": fake * 2})["period"] == 4.25
    assert discriminator_losses({"band": real * 2}, {"band": fake * 2})["band"] == 18.25
    found = generator_losses({"period": real, "band": real}, {"period": fake, "band": fake})
    assert found["adversarial"] == (0 + 1) / 2 + (4 + 1) / 2
    assert found["feature"] == 2 * (2.5 + 2.0) / 2
    assert feature_matching(real[0], fake[0]) == 2.25


def test_real_features_get_no_gradient() -> None:
    discriminator = SpeechDiscriminator(SMALL)
    x = noise(1, 500).requires_grad_()
    generator_losses(discriminator(x), discriminator(noise(1, 500, seed=1)))["feature"].backward()
    assert x.grad is None


def test_outputs_have_a_score_per_patch_and_the_maps() -> None:
    outputs = SpeechDiscriminator(SMALL)(noise(2, 997))
    assert {name: len(parts) for name, parts in outputs.items()} == {
        "period": 2,
        "resolution": 2,
        "band": 2,
    }
    scores, maps = outputs["period"][1]
    # 997 samples: 333 rows of 3, halved by 3 four times: 111, 37, 13, 5
    assert scores.shape == (2, 1, 5, 3) and [m.shape[2] for m in maps] == [37, 13, 5, 5]
    scores, maps = outputs["resolution"][0]
    assert scores.shape[:3] == (2, 1, 2) and len(maps) == 5  # 33 bins halved five times: 2
    scores, maps = outputs["band"][0]
    assert scores.shape[:3] == (2, 1, 1 + 997 // 16) and len(maps) == 25


def test_an_empty_tuple_leaves_a_kind_out() -> None:
    config = SpeechDiscriminatorConfig(periods=(), resolutions=(), bands=(64,), band_width=2)
    assert list(SpeechDiscriminator(config)(noise(1, 300))) == ["band"]


def test_the_papers_sizes() -> None:
    """Million parameters, as counted in the authors' model, which has the first kind twice."""
    with torch.device("meta"):
        discriminator = SpeechDiscriminator(SpeechDiscriminatorConfig())
    found = {
        name: round(sum(p.numel() for p in part.parameters()) / 1e6, 1)
        for name, part in discriminator.named_children()
    }
    assert found == {"period": 41.1, "resolution": 0.6, "band": 1.4}


def test_spectra_stay_in_float32_under_bf16() -> None:
    x, y = noise(1, 2000), noise(1, 2000, seed=1)
    distance = MelDistance(8000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(distance(x, y), MelDistance(8000)(x, y))
        mixed = distance(x, y)
    assert torch.equal(mixed, distance(x, y))


@pytest.mark.parametrize(
    ("discriminator", "said"),
    [
        ({"bands": [17]}, r"discriminator\.bands\[0\]=17 must be at least 18"),
        ({"resolutions": [3]}, r"discriminator\.resolutions\[0\]=3 must be at least 4"),
        ({"periods": [], "resolutions": [], "bands": []}, "are all empty: set one of them"),
    ],
)
def test_discriminators_that_can_not_be_are_told(discriminator: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(SpeechLossConfig, {"discriminator": discriminator})


def test_the_smallest_windows_are_enough() -> None:
    config = build(SpeechDiscriminatorConfig, {"periods": [], "resolutions": [4], "bands": [18]})
    assert [*SpeechDiscriminator(config)(noise(1, 400))] == ["resolution", "band"]
