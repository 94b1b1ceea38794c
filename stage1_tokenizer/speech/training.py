"""Speech in the training of a tokenizer: batches, losses, metrics, examples."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from common.processes import processes
from common.stopwatch import part
from stage1_tokenizer.batches import Batch, training_batches
from stage1_tokenizer.codebook_usage import position_share, quantization_error
from stage1_tokenizer.config import TrainTokenizerConfig
from stage1_tokenizer.data import held_out_items
from stage1_tokenizer.quantizers import Quantized
from stage1_tokenizer.speech.data import (
    SpeechAugmentConfig,
    SpeechDataConfig,
    SpeechDataset,
    load_clips,
)
from stage1_tokenizer.speech.discriminator import SpeechDiscriminator
from stage1_tokenizer.speech.figures import save_spectrograms, save_waveform
from stage1_tokenizer.speech.losses import (
    MelDistance,
    SpeechLossConfig,
    discriminator_losses,
    generator_losses,
)
from stage1_tokenizer.speech.net import inside
from stage1_tokenizer.speech.tokenizer import SpeechTokenizer, SpeechTokenizerConfig

HELD_OUT = 32
"""Held-out clips that are evaluated, at the most, spread over the split."""
HELD_OUT_SECONDS = 4.0
"""Longer held-out clips are evaluated to here."""
EXAMPLES = 4
"""Clips that are saved as examples, at the most, spread over those that are evaluated."""


@dataclass(frozen=True, kw_only=True)
class TrainSpeechTokenizerConfig(TrainTokenizerConfig):
    """Trains a tokenizer of speech: `simvq train-tokenizer CONFIG [key=value ...]`."""

    modality: Literal["speech"] = "speech"
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    augment: SpeechAugmentConfig = field(default_factory=SpeechAugmentConfig)
    model: SpeechTokenizerConfig = field(default_factory=SpeechTokenizerConfig)
    loss: SpeechLossConfig = field(default_factory=SpeechLossConfig)


class SpeechTraining:
    """What the training loop needs of speech."""

    config_class = TrainSpeechTokenizerConfig
    items = "clips"

    def __init__(self, config: TrainSpeechTokenizerConfig, device: torch.device) -> None:
        rate = config.model.sample_rate
        self.loss, self.augment = config.loss, config.augment
        self.train_set = load_clips(config.data, "train", sample_rate=rate)
        if processes().is_main_process and (line := self.train_set.conversions()):
            logging.getLogger(__name__).warning(line)
        held_out = held_out_clips(load_clips(config.data, "validation", sample_rate=rate))
        self.held_out, self.held_out_lengths = (tensor.to(device) for tensor in held_out)
        self.tokenizer = SpeechTokenizer(config.model)
        self.mel = MelDistance(rate, config.loss.mel).to(device)
        self.heldout_mel = MelDistance(rate).to(device)
        self.discriminator: nn.Module | None = None
        if config.loss.adversarial:
            self.discriminator = SpeechDiscriminator(config.loss.discriminator)

    def batches(self, accelerator: Accelerator, **settings: int) -> Iterator[Batch]:
        """Endless batches with `waveforms` and `lengths`."""
        load = partial(self.train_set.training_item, augment=self.augment)
        return training_batches(self.train_set, load, accelerator, **settings)

    def latents(self, batch: Batch) -> Float[Tensor, "n d"]:
        """The encoder's output for a batch, from which the codebook is initialised; nothing past the ends."""
        latents = self.tokenizer.latents(batch["waveforms"], batch["lengths"])
        return self._inside(latents, batch["lengths"])

    def _inside(
        self, latents: Float[Tensor, "b d n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "m d"]:
        counts = self.tokenizer.counts(lengths)
        assert counts is not None
        return latents.mT[inside(counts, latents.shape[2])]

    def generator_losses(
        self, model: nn.Module, batch: Batch, adversary: nn.Module | None
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b t"], Quantized]:
        """The weighted losses of encoder, decoder and quantizer, the reconstructions, and the codes."""
        waveforms, lengths, weights = batch["waveforms"], batch["lengths"], self.loss
        with part("forward"):
            decoded, quantized = model(waveforms, lengths)
        assert isinstance(quantized, Quantized)
        decoded = decoded.float()
        losses = {"mel": weights.mel_weight * self.mel(decoded, waveforms, lengths)}
        if adversary is not None:
            with torch.no_grad():
                real = adversary(waveforms)
            terms = generator_losses(real, adversary(decoded))
            losses["adversarial"] = weights.adversarial_weight * terms["adversarial"]
            losses["feature"] = weights.feature_weight * terms["feature"]
        return losses | quantized.losses, decoded.detach(), quantized

    def discriminator_loss(
        self, discriminator: nn.Module, batch: Batch, fake: Float[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """The discriminators' loss on a batch and its reconstructions, which pass them apart."""
        losses = discriminator_losses(discriminator(batch["waveforms"]), discriminator(fake))
        return torch.stack(list(losses.values())).sum()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The seven-scale mel distance of held-out clips, decoded from their codes alone; what
        quantization loses; how much of the latents is their position."""
        waveforms, lengths = self.held_out, self.held_out_lengths
        latents = self.tokenizer.latents(waveforms, lengths)
        decoded = self.tokenizer.rebuild(latents, waveforms.shape[1], lengths)
        vectors = self._inside(latents, lengths)[None]
        return {
            "heldout/mel": float(self.heldout_mel(decoded, waveforms, lengths)),
            "heldout/quantization_error": quantization_error(self.tokenizer.quantizer, vectors),
            "latents/position_share": position_share(latents.mT, self.tokenizer.counts(lengths)),
        }

    def evaluate_constant(self) -> dict[str, float]:
        """The mel distance of the best constant sound: of each band's median, at each scale."""
        total = 0.0
        for i, scale in enumerate(self.heldout_mel.scales):
            mel = self.heldout_mel.log_mel(self.held_out, i)
            mel = mel.mT[inside(1 + self.held_out_lengths // scale.hop, mel.shape[2])]
            total += float((mel - mel.median(0).values).abs().mean())
        return {"constant/mel": total}

    def describe(self) -> str:
        """The data set, the classes and speakers, and the bits of one second."""
        data = self.train_set
        bits, rate = self.tokenizer.quantizer.spec.bits, self.tokenizer.config.codes_per_second
        return (
            f"{data.counted('clips')}, {len(data.classes)} classes, {len(data.speakers)} speakers, "
            f"{bits:.4g} bits at each of {rate:g} positions per second ({bits * rate:,.0f} bits per second)"
        )

    def save_examples(self, path: Path) -> None:
        """Held-out originals and reconstructions: spectrograms in one figure, sound in a folder."""
        stride = -(-len(self.held_out) // EXAMPLES)
        lengths = self.held_out_lengths[::stride]
        originals = self.held_out[::stride, : int(lengths.max())]
        decoded = self.tokenizer.reconstruct(originals, lengths)
        rate, pairs = self.tokenizer.config.sample_rate, []
        for i, length in enumerate(lengths.tolist()):
            pair = {"original": originals[i, :length], "reconstruction": decoded[i, :length]}
            pairs.append(pair)
            for name, waveform in pair.items():
                save_waveform(waveform, rate, path / f"{i}-{name}.wav")
        save_spectrograms(pairs, rate, path.with_suffix(".png"))


def held_out_clips(dataset: SpeechDataset) -> tuple[Float[Tensor, "b t"], Int[Tensor, " b"]]:
    """Clips spread over a split, at most 32 and of at most 4 seconds, padded, and their lengths."""
    most = round(HELD_OUT_SECONDS * dataset.sample_rate)
    clips = held_out_items(dataset, HELD_OUT, lambda row: dataset.decode(row)[:most])
    return pad_sequence(clips, batch_first=True), torch.tensor([len(clip) for clip in clips])
