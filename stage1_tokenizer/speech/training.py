"""What is particular to speech in the training of a tokenizer: batches, losses, what is watched."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from common.processes import processes
from common.stopwatch import part
from stage1_tokenizer.batches import BadItems
from stage1_tokenizer.codebook_usage import position_share, quantization_error
from stage1_tokenizer.images.data import BadItemError
from stage1_tokenizer.quantizers import Quantized
from stage1_tokenizer.speech.batches import crop_batches
from stage1_tokenizer.speech.data import SpeechDataConfig, SpeechDataset, load_clips
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
"""Held-out recordings watched in the log, spread over the split."""
HELD_OUT_SECONDS = 4.0
"""Of a longer one the beginning is watched."""
DRAWN = 4
"""The first of them are drawn and written as sound."""


class SpeechModality:
    """The parts of a speech tokenizer's training that the loop in `train` calls."""

    items = "crops"
    """What the log counts per second."""

    def __init__(
        self,
        data: SpeechDataConfig,
        model: SpeechTokenizerConfig,
        loss: SpeechLossConfig,
        device: torch.device,
    ) -> None:
        def load(split: str) -> SpeechDataset:
            return load_clips(data, split, sample_rate=model.sample_rate)

        self.loss = loss
        self.recordings = load("train")
        if processes().is_main_process and (line := self.recordings.conversions()):
            logging.getLogger(__name__).warning(line)
        self.held_out, self.held_out_lengths = (
            part.to(device) for part in held_out_recordings(load("validation"))
        )
        self.model = SpeechTokenizer(model)
        self.mel = MelDistance(model.sample_rate, loss.mel).to(device)
        self.heard = MelDistance(model.sample_rate).to(device)
        self.discriminator: nn.Module | None = None
        if loss.adversarial:
            self.discriminator = SpeechDiscriminator(loss.discriminator)

    def batches(
        self, accelerator: Accelerator, *, batch_size: int, seed: int, done: int, workers: int
    ) -> Iterator[dict[str, Any]]:
        """Endless batches of this process with `waveforms` and `lengths` on its device."""
        rank, world = accelerator.process_index, accelerator.num_processes
        self.bad = BadItems(len(self.recordings) / world)
        for batch in crop_batches(
            self.recordings,
            batch_size=batch_size,
            seed=seed,
            done=done,
            rank=rank,
            world=world,
            workers=workers,
        ):
            self.bad.count(batch["bad"], batch["epoch"], len(batch["lengths"]))
            for name in ("waveforms", "lengths"):
                batch[name] = batch[name].to(accelerator.device, non_blocking=True)
            yield batch

    def latents(self, batch: dict[str, Any]) -> Float[Tensor, "n d"]:
        """The encoder's output for a batch, from which the codebook starts; nothing past the ends."""
        latents = self.model.latents(batch["waveforms"], batch["lengths"])
        return self._inside(latents, batch["lengths"])

    def _inside(
        self, latents: Float[Tensor, "b d n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "m d"]:
        counts = self.model.counts(lengths)
        assert counts is not None
        return latents.mT[inside(counts, latents.shape[2])]

    def generator_losses(
        self, model: nn.Module, batch: dict[str, Any], adversary: nn.Module | None
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
            judged = generator_losses(real, adversary(decoded))
            losses["adversarial"] = weights.adversarial_weight * judged["adversarial"]
            losses["feature"] = weights.feature_weight * judged["feature"]
        return losses | quantized.losses, decoded.detach(), quantized

    def discriminator_loss(
        self, discriminator: nn.Module, batch: dict[str, Any], fake: Float[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """The discriminators' loss on a batch and its reconstructions, which are judged apart."""
        losses = discriminator_losses(discriminator(batch["waveforms"]), discriminator(fake))
        return torch.stack(list(losses.values())).sum()

    @torch.no_grad()
    def watch(self) -> dict[str, float]:
        """The seven-scale mel distance of held-out recordings, decoded from their codes alone; what
        quantization loses; how much of the latents is their place."""
        waveforms, lengths = self.held_out, self.held_out_lengths
        latents = self.model.latents(waveforms, lengths)
        decoded = self.model.rebuild(latents, waveforms.shape[1], lengths)
        distance = self.heard(decoded, waveforms, lengths)
        return {
            "heldout/mel": float(distance),
            "heldout/quantization_error": quantization_error(
                self.model.quantizer, self._inside(latents, lengths)[None]
            ),
            "latents/position_share": position_share(latents.mT, self.model.counts(lengths)),
        }

    def constant(self) -> dict[str, float]:
        """The mel distance of the best constant sound: of each band's median, at each scale."""
        total = 0.0
        for i, scale in enumerate(self.heard.scales):
            mel = self.heard.log_mel(self.held_out, i)
            mel = mel.mT[inside(1 + self.held_out_lengths // scale.hop, mel.shape[2])]
            total += float((mel - mel.median(0).values).abs().mean())
        return {"constant/mel": total}

    def about(self) -> str:
        """The data set, the classes and speakers, and the bits of one second."""
        model, recordings = self.model, self.recordings
        bits, rate = model.quantizer.spec.bits, model.config.codes_per_second
        return (
            f"{len(recordings):,} recordings, {len(recordings.classes)} classes, {len(recordings.speakers)} "
            f"speakers, {bits:.4g} bits at each of {rate:g} positions per second ({bits * rate:,.0f} bits per second)"
        )

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Held-out originals and reconstructions: spectrograms in a picture, sound in a folder."""
        lengths = self.held_out_lengths[:DRAWN]
        shown = self.held_out[:DRAWN, : int(lengths.max())]
        decoded = self.model.reconstruct(shown, lengths)
        rate, pairs = self.model.config.sample_rate, []
        for i, length in enumerate(lengths.tolist()):
            pair = {"original": shown[i, :length], "reconstruction": decoded[i, :length]}
            pairs.append(pair)
            for name, waveform in pair.items():
                save_waveform(waveform, rate, path / f"{i}-{name}.wav")
        save_spectrograms(pairs, rate, path.with_suffix(".png"))


def held_out_recordings(
    recordings: SpeechDataset,
) -> tuple[Float[Tensor, "b t"], Int[Tensor, " b"]]:
    """Decodable recordings spread over a split, at most 32, padded, and their lengths."""
    most = round(HELD_OUT_SECONDS * recordings.sample_rate)
    step = -(-len(recordings) // HELD_OUT)
    found = []
    for index in range(0, len(recordings), step):
        try:
            found.append(recordings.decode(recordings[index])[:most])
        except BadItemError:
            continue
    if not found:
        raise ValueError("the validation split has no decodable recording: set data.validation")
    lengths = torch.tensor([len(waveform) for waveform in found])
    return pad_sequence(found, batch_first=True), lengths
