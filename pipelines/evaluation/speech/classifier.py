"""A small classifier of clips by their log-mels: its labels and its features score speech."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from common.bounds import Count
from common.extras import Extra
from common.hub import HubModel
from common.seeding import EndlessSampler, generator_at
from pipelines.evaluation.config import SpeechArchitecture, TrainSpeechClassifierConfig
from pipelines.evaluation.extractors import classifier_name
from pipelines.evaluation.speech.data import Clips, read_clips
from stage1_tokenizer.speech.data import load_clips
from stage1_tokenizer.speech.net import inside

torchaudio = Extra("torchaudio")

WINDOW_SECONDS, HOP_SECONDS = 0.032, 0.01
DILATIONS = (1, 2, 4)
FLOOR = 1e-5
"""Least magnitude before the logarithm."""
NOISE_DB = (-60.0, -25.0)
"""Range of the noise that is added in training, relative to the clip's peak."""
SHIFT_SECONDS = 0.1
"""Most silence put before a clip in training."""


@dataclass(frozen=True, kw_only=True)
class SpeechClassifierConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    name: str = "classifier"
    """What distances between its features are called after: FD(name)."""
    sample_rate: Count = 8000
    """Samples per second of what it is given."""
    classes: tuple[str, ...] = ()
    """Names of the labels."""
    mels: Count = 40
    """Bands of the spectrogram."""
    width: Count = 64
    """Channels of every layer, and dimensions of the features."""
    architecture: SpeechArchitecture = "convolutional"

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(
                f"classes={self.classes} must be at least 2: a classifier needs labelled clips, "
                "set data.label_column"
            )


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside the identity; time past an item's end stays zero."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm1d(width)

    def forward(
        self, x: Float[Tensor, "b c n"], mask: Float[Tensor, "b 1 n"]
    ) -> Float[Tensor, "b c n"]:
        inner = F.relu(self.norm1(self.conv1(x))) * mask
        return F.relu(x + self.norm2(self.conv2(inner))) * mask


class SpeechClassifier(HubModel):
    """Seven convolutions, or a bidirectional GRU, over log-mels less each clip's mean. Waveforms are in [-1, 1]."""

    config_class = SpeechClassifierConfig
    config: SpeechClassifierConfig
    window: Tensor
    filters: Tensor

    def __init__(self, config: SpeechClassifierConfig) -> None:
        super().__init__(config)
        width, rate = config.width, config.sample_rate
        self.window_size = 2 * round(WINDOW_SECONDS * rate / 2)
        self.hop = round(HOP_SECONDS * rate)
        window = torch.hann_window(self.window_size)
        filters = torchaudio.functional.melscale_fbanks(
            self.window_size // 2 + 1, 0.0, rate / 2, config.mels, rate, norm="slaney"
        )
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        if config.architecture == "recurrent":
            self.recurrent = nn.GRU(config.mels, width // 2, batch_first=True, bidirectional=True)
        else:
            self.stem = nn.Conv1d(config.mels, width, 5, padding=2, bias=False)
            self.norm = nn.BatchNorm1d(width)
            self.blocks = nn.ModuleList(Residual(width, dilation) for dilation in DILATIONS)
        self.head = nn.Linear(width, len(config.classes))

    def log_mel(
        self, waveforms: Float[Tensor, "b t"], lengths: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b m n"], Float[Tensor, "b 1 n"]]:
        """Log-mels less each item's mean, whatever its loudness; and 1 for the frames within an item."""
        spectrum = torch.stft(
            waveforms.float(),
            self.window_size,
            self.hop,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        ).abs()
        mel = (spectrum.mT @ self.filters).mT.clamp_min(FLOOR).log()
        mask = inside(1 + lengths // self.hop, mel.shape[2])[:, None].to(mel.dtype)
        mean = (mel * mask).sum((1, 2), keepdim=True) / mask.sum((1, 2), keepdim=True)
        return (mel - mean / mel.shape[1]) * mask, mask

    def features(
        self, waveforms: Float[Tensor, "b t"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b f"]:
        """The last layer's output, averaged over each clip; lengths are in samples."""
        mel, mask = self.log_mel(waveforms, lengths)
        if self.config.architecture == "recurrent":
            x = self.both_ways(mel, mask)
        else:
            x = F.relu(self.norm(self.stem(mel))) * mask
            for block in self.blocks:
                x = block(x, mask)
        return x.sum(2) / mask.sum(2)

    def both_ways(
        self, mel: Float[Tensor, "b m n"], mask: Float[Tensor, "b 1 n"]
    ) -> Float[Tensor, "b c n"]:
        """The recurrent layer's states, each item read to its end and back; zero past it."""
        lengths = mask.sum((1, 2)).long().cpu()
        packed = pack_padded_sequence(mel.mT, lengths, batch_first=True, enforce_sorted=False)
        states, _ = self.recurrent(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=mel.shape[2])[0].mT

    def forward(
        self, waveforms: Float[Tensor, "b t"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b k"]:
        """Unnormalised log-probabilities of the classes."""
        return self.head(self.features(waveforms, lengths))


class AugmentedClips(TorchDataset[tuple[Tensor, Tensor]]):
    """(clip, label) of a (position, index): the position decides noise and shift."""

    def __init__(self, clips: Clips, seed: int) -> None:
        self.clips, self.seed = clips, seed

    def __getitem__(self, place: tuple[int, int]) -> tuple[Float[Tensor, " t"], Int[Tensor, ""]]:
        position, index = place
        clip, generator = self.clips.waveforms[index], generator_at(self.seed, position)
        level, shift = torch.rand(2, generator=generator).tolist()
        before = int(shift * SHIFT_SECONDS * self.clips.sample_rate)
        clip = F.pad(clip, (before, 0))
        low, high = NOISE_DB
        noise = torch.randn(len(clip), generator=generator) * 10 ** (
            (low + (high - low) * level) / 20
        )
        return clip + noise * clip.abs().max(), self.clips.labels[index]


class SpeechClassifierTask:
    """The parts of training a classifier of clips that the loop calls."""

    def __init__(self, config: TrainSpeechClassifierConfig) -> None:
        self.config = config
        self.train, self.heldout = (
            read_clips(load_clips(config.data, split, sample_rate=config.sample_rate))
            for split in ("train", "validation")
        )

    def new_model(self) -> SpeechClassifier:
        """The network with new weights."""
        config = self.config
        return SpeechClassifier(
            SpeechClassifierConfig(
                name=classifier_name(config.data, config.architecture, "convolutional"),
                architecture=config.architecture,
                sample_rate=config.sample_rate,
                classes=self.train.classes,
                mels=config.mels,
                width=config.width,
            )
        )

    def train_batches(self, device: torch.device) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """Endless batches of augmented clips, padded to the longest of each, and their labels."""
        loader = DataLoader(
            AugmentedClips(self.train, self.config.seed),
            self.config.batch_size,
            sampler=EndlessSampler(len(self.train), seed=self.config.seed),
            num_workers=self.config.workers,
            collate_fn=list,
        )
        for items in loader:
            inputs = padded([waveform for waveform, _ in items], device)
            yield inputs, torch.stack([label for _, label in items]).to(device)

    def heldout_batches(self, device: torch.device) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """All held-out clips once, and their labels."""
        for start in range(0, len(self.heldout), 64):
            inputs = padded(self.heldout.waveforms[start : start + 64], device)
            yield inputs, self.heldout.labels[start : start + 64].to(device)


def padded(
    waveforms: list[Tensor], device: torch.device
) -> tuple[Float[Tensor, "b t"], Int[Tensor, " b"]]:
    """Waveforms as one batch, and their lengths in samples."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms], device=device)
    return pad_sequence(waveforms, batch_first=True).to(device), lengths
