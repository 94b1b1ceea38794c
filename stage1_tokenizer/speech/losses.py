"""Losses of the speech tokenizer, in float32: mel distances and adversarial terms."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from common.bounds import NonNegative
from common.extras import Extra
from stage1_tokenizer.config import AdversarialLossConfig
from stage1_tokenizer.speech.discriminator import (
    DiscriminatorOutput,
    DiscriminatorOutputs,
    SpeechDiscriminatorConfig,
)
from stage1_tokenizer.speech.net import Lengths, inside

torchaudio = Extra("torchaudio")


@dataclass(frozen=True, kw_only=True)
class SpeechLossConfig(AdversarialLossConfig):
    """Weights of the losses. The quantizer's own is model.quantizer.weight."""

    mel: Literal["multi", "single"] = "multi"
    """The log-mel distance: over seven scales (Descript), or over one, as SimVQ's authors have it."""
    mel_weight: NonNegative = 15.0
    """15 is usual for `multi` and 45 for `single`, beside adversarial and feature terms of 1 to 2."""
    feature_weight: NonNegative = 1.0
    """Weight of the distance between the discriminators' features of clip and reconstruction."""
    discriminator: SpeechDiscriminatorConfig = field(default_factory=SpeechDiscriminatorConfig)

    def __post_init__(self) -> None:
        kinds = self.discriminator
        if self.adversarial and not (kinds.periods or kinds.resolutions or kinds.bands):
            raise ValueError(
                "periods, resolutions and bands of the discriminator are all empty: set one of them in "
                "loss.discriminator, or loss.adversarial_weight=0"
            )


@dataclass(frozen=True)
class MelScale:
    """One resolution of a mel distance."""

    n_fft: int
    hop: int
    mels: int
    decades: bool
    """Logarithms to base 10, filters of equal area (Slaney); else natural, of equal height."""
    floor: float
    """Least magnitude before the logarithm."""


SCALES = {
    "multi": tuple(MelScale(2**i, 2**i // 4, 5 * 2 ** (i - 5), True, 1e-5) for i in range(5, 12)),
    "single": (MelScale(1024, 256, 100, False, 1e-7),),
}
"""The seven scales of the Descript codec (arXiv 2306.06546), and the one scale of SimVQ's
authors."""


class MelDistance(nn.Module):
    """Mean absolute difference of log-mel spectrograms, summed over scales."""

    def __init__(self, sample_rate: int, kind: Literal["multi", "single"] = "multi") -> None:
        super().__init__()
        self.scales = SCALES[kind]
        self.spectrograms = nn.ModuleList(
            torchaudio.transforms.MelSpectrogram(
                sample_rate,
                scale.n_fft,
                hop_length=scale.hop,
                n_mels=scale.mels,
                power=1.0,
                norm="slaney" if scale.decades else None,
                mel_scale="slaney" if scale.decades else "htk",
            )
            for scale in self.scales
        )

    def forward(
        self, waveform: Float[Tensor, "b t"], target: Float[Tensor, "b t"], lengths: Lengths = None
    ) -> Float[Tensor, ""]:
        """The distance; `lengths` in samples leaves out the frames centred past an item's end."""
        total = waveform.new_zeros((), dtype=torch.float32)
        for i, scale in enumerate(self.scales):
            difference = (self.log_mel(waveform, i) - self.log_mel(target, i)).abs().mean(1)
            if lengths is None:
                total = total + difference.mean()
            else:
                valid = inside(1 + lengths // scale.hop, difference.shape[1])
                total = total + difference.where(valid, 0).sum() / valid.sum()
        return total

    def log_mel(self, waveform: Float[Tensor, "b t"], i: int) -> Float[Tensor, "b m n"]:
        """The log-mel spectrogram at scale `i`, its frames centred every hop from sample 0."""
        scale = self.scales[i]
        with torch.autocast(waveform.device.type, enabled=False):
            missing = scale.n_fft // 2 + 1 - waveform.shape[1]  # to mirror the ends takes so many
            padded = F.pad(waveform.float(), (0, max(missing, 0)))
            mel = self.spectrograms[i](padded).clamp_min(scale.floor)
            return mel.log10() if scale.decades else mel.log()


def discriminator_losses(
    real: DiscriminatorOutputs, fake: DiscriminatorOutputs
) -> dict[str, Float[Tensor, ""]]:
    """The discriminators' losses by kind: mean hinge losses; for `band`, the sum of least-squares losses."""
    return {
        name: _joined(
            name,
            [
                real_term(name, of_real) + fake_term(name, of_fake)
                for (of_real, _), (of_fake, _) in zip(real[name], fake[name], strict=True)
            ],
        )
        for name in real
    }


def generator_losses(
    real: DiscriminatorOutputs, fake: DiscriminatorOutputs
) -> dict[str, Float[Tensor, ""]]:
    """What the tokenizer minimises: `adversarial`, to be taken for real, and `feature` matching."""
    adversarial, feature = [], []
    for name in fake:
        adversarial.append(_joined(name, [real_term(name, score) for score, _ in fake[name]]))
        pairs = zip(real[name], fake[name], strict=True)
        feature.append(_joined(name, [feature_matching(*pair) for pair in pairs]))
    return {"adversarial": torch.stack(adversarial).sum(), "feature": torch.stack(feature).sum()}


def real_term(name: str, score: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """How far scores are from "real": hinge loss (arXiv 1705.02894), or least squares for `band` (arXiv 1611.04076)."""
    left = 1 - score.float()
    return left.square().mean() if name == "band" else F.relu(left).mean()


def fake_term(name: str, score: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """How far scores are from "fake"."""
    score = score.float()
    return score.square().mean() if name == "band" else F.relu(1 + score).mean()


def feature_matching(real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Float[Tensor, ""]:
    """The mean absolute difference of each feature map, summed over a discriminator's maps."""
    maps = zip(real[1], fake[1], strict=True)
    return torch.stack([(a.detach().float() - b.float()).abs().mean() for a, b in maps]).sum()


def _joined(name: str, terms: list[Tensor]) -> Float[Tensor, ""]:
    stacked = torch.stack(terms)
    return stacked.sum() if name == "band" else stacked.mean()
