"""Who judges recordings: our classifier, a network of voices, and a recogniser of words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.hub import sha256
from pipelines.evaluation.fidelity import Features
from pipelines.evaluation.speech.classifier import SpeechClassifier, classified
from pipelines.evaluation.speech.data import Clips, spoken
from pipelines.evaluation.speech.metrics import WIDE, MissingPackageError, package, resampled

BATCH = 64
"""SpeechDataset that the classifier hears at once."""
PAUSE = 3200
"""Zeros around a recording at 16 kHz, in which the recogniser finds its feet."""


class SpeechClassifierJudge:
    """Our own classifier: its averaged last layer, and the labels it finds."""

    published = False

    def __init__(self, folder: Path, sample_rate: int, device: torch.device) -> None:
        if not (folder / "model.safetensors").is_file():
            raise ValueError(
                f"classifier={folder} is not the `model` folder of `simvq train-classifier`: set classifier"
            )
        self.model: SpeechClassifier = SpeechClassifier.from_pretrained(folder).to(device)
        if self.model.config.sample_rate != sample_rate:
            raise ValueError(
                f"classifier={folder} was trained at {self.model.config.sample_rate} Hz, the tokenizer at "
                f"{sample_rate}: train a classifier with sample_rate={sample_rate}, or set classifier"
            )
        self.name, self.sha256 = self.model.config.name, sha256(folder / "model.safetensors")

    def extract(self, clips: Clips) -> Features:
        """Features, and unnormalised log-probabilities of classes."""
        parts = classified(self.model, clips, BATCH)
        features, logits = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        return Features(features, logits, clips.indices, clips.labels)


class VoiceJudge:
    """resemblyzer's network of voices: 256 features of unit length. Raises MissingPackageError."""

    published = False
    name = "resemblyzer"

    def __init__(self, device: torch.device) -> None:
        module = package("resemblyzer", "--no-deps resemblyzer webrtcvad-wheels")
        self.sha256 = sha256(Path(module.__file__ or "").with_name("pretrained.pt"))
        self.encoder: Any = module.VoiceEncoder(device, verbose=False)

    def extract(self, clips: Clips) -> Features:
        """An embedding of each recording, as it is but for its rate: nothing trimmed or made louder."""
        parts = [
            torch.from_numpy(self.encoder.embed_utterance(resampled(clip, clips.sample_rate, WIDE)))
            for clip in clips.waveforms
        ]
        return Features(torch.stack(parts), torch.zeros(len(clips), 0), clips.indices, clips.labels)


class UtmosJudge:
    """A network of opinions as TorchScript: recordings (b, t) at 16 kHz to opinions (b,), 1 to 5.

    The published checkpoints of UTMOS are pickles, which nothing here opens; a TorchScript file of
    one, made elsewhere with torch.jit.save, is read without running Python.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        try:
            self.model = torch.jit.load(path, map_location=device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise ValueError(
                f"utmos={path} is not a TorchScript file ({reason}): set utmos"
            ) from None
        self.path, self.device = path, device
        self.name, self.sha256 = path.name, sha256(path)

    @torch.no_grad()
    def opinion(self, waveform: Tensor, rate: int) -> float:
        """Of one recording. Raises ValueError for a network that does not answer with one number."""
        heard = torch.from_numpy(resampled(waveform, rate, WIDE))[None].to(self.device)
        try:
            found = self.model(heard)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [repr(error)])[-1]
            raise ValueError(
                f"utmos={self.path} can't hear {tuple(heard.shape)} samples ({reason}): set utmos"
            ) from None
        if not isinstance(found, Tensor) or found.shape != (1,):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"utmos={self.path} gives {shape} for one recording, it must give (1,): set utmos"
            )
        return float(found)


def similarity(a: Tensor, b: Tensor) -> list[float | None]:
    """The cosine of each pair of embeddings."""
    return nn.functional.cosine_similarity(a, b, dim=1).tolist()


def speaker_means(voices: Features, clips: Clips, count: int) -> Tensor:
    """The mean embedding of each of `count` speakers; zero for one without recordings."""
    sums = torch.zeros(count, voices.features.shape[1])
    return nn.functional.normalize(sums.index_add(0, clips.speakers, voices.features), dim=1)


def recognised(clips: Clips) -> Iterator[float | None]:
    """1 for each recording in which pocketsphinx, who knows only the labels, hears its label, else 0.

    Raises MissingPackageError where pocketsphinx, or a label in its dictionary, is missing.
    """
    words = spoken(clips.classes)
    decoder = package("pocketsphinx").Decoder(lm=None, samprate=WIDE, loglevel="FATAL")
    unknown = [word for word in words if not word.isalpha() or decoder.lookup_word(word) is None]
    if unknown:
        raise MissingPackageError(f"pocketsphinx has no such word: {', '.join(unknown[:3])}")
    decoder.add_jsgf_string(
        "labels", f"#JSGF V1.0; grammar labels; public <label> = {' | '.join(words)};"
    )
    decoder.activate_search("labels")
    for clip, label in zip(clips.waveforms, clips.labels.tolist(), strict=True):
        samples = np.pad(resampled(clip, clips.sample_rate, WIDE), PAUSE)
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp()
        yield float(heard is not None and heard.hypstr == words[label])
