"""Networks that scores of speech rest on: our classifier, one of voices, one of opinions, and Whisper."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
from transformers.utils import cached_file

from common.files import sha256
from pipelines.evaluation.config import SpeechArchitecture
from pipelines.evaluation.extractors import load_classifier, second_classifier
from pipelines.evaluation.features import Features
from pipelines.evaluation.speech.classifier import (
    SpeechClassifier,
    SpeechClassifierConfig,
    padded,
)
from pipelines.evaluation.speech.data import Clips
from pipelines.evaluation.speech.packages import WIDE, package, resampled
from pipelines.evaluation.table import Unavailable

UNTRAINED: list[tuple[str, SpeechArchitecture]] = [
    ("untrained-network", "convolutional"),
    ("untrained-network-recurrent", "recurrent"),
]
BATCH, WHISPER_BATCH = 64, 8
"""Clips at once, for the classifier and for Whisper."""
NO_UTMOS = Unavailable("there is no network of opinions: set utmos to a TorchScript file of UTMOS")
NO_WHISPER = Unavailable(
    "there is no recogniser of words: set whisper to the folder or Hub name of a Whisper model"
)


class ClassifierExtractor:
    """Our own classifier: its averaged last layer, and the labels it finds."""

    published = False

    def __init__(self, model: SpeechClassifier, classes: tuple[str, ...]) -> None:
        self.model, self.name, self.classes = model.eval(), model.config.name, classes
        self.sha256 = hashlib.sha256(save(model.state_dict())).hexdigest()

    @torch.no_grad()
    def extract(self, clips: Clips) -> Features:
        device, parts = self.model.head.weight.device, []
        for start in range(0, len(clips), BATCH):
            waveforms = clips.waveforms[start : start + BATCH]
            parts.append(self.model.features(*padded(waveforms, device)))
        features, logits = torch.cat(parts).cpu(), torch.cat([*map(self.model.head, parts)]).cpu()
        return Features(features, logits, clips.indices, clips.labels)


def classifiers(
    folder: Path | None, sample_rate: int, device: torch.device
) -> list[ClassifierExtractor]:
    """The classifier and the second one, if it exists; without a folder, two networks with fixed random weights.

    Raises ValueError for one of another rate.
    """
    if folder is None:
        return [untrained(sample_rate, device, *which) for which in UNTRAINED]
    folders = [folder, *([second] if (second := second_classifier(folder)).is_dir() else [])]
    models = [load_classifier(SpeechClassifier, each).to(device) for each in folders]
    if (rate := models[0].config.sample_rate) != sample_rate:
        raise ValueError(
            f"classifier={folder} was trained at {rate} Hz, the tokenizer at {sample_rate}: train a "
            f"classifier with sample_rate={sample_rate}, or set classifier"
        )
    return [ClassifierExtractor(model, model.config.classes) for model in models]


def untrained(
    sample_rate: int, device: torch.device, name: str, architecture: SpeechArchitecture
) -> ClassifierExtractor:
    """A network that has learned nothing: its features tell sets of clips apart, but not as people would."""
    config = SpeechClassifierConfig(
        name=name, sample_rate=sample_rate, classes=("none", "other"), architecture=architecture
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ClassifierExtractor(SpeechClassifier(config).to(device), classes=())


class VoiceExtractor:
    """resemblyzer's network of voices: 256 features of unit length. Raises MissingPackageError."""

    published = False
    name = "resemblyzer"

    def __init__(self, device: torch.device) -> None:
        module = package("resemblyzer", "--no-deps resemblyzer webrtcvad-wheels")
        self.sha256 = sha256(Path(module.__file__ or "").with_name("pretrained.pt"))
        self.encoder: Any = module.VoiceEncoder(device, verbose=False)

    def extract(self, clips: Clips) -> Features:
        """An embedding of each clip, as it is but for its rate: nothing trimmed or made louder."""
        parts = [
            torch.from_numpy(self.encoder.embed_utterance(resampled(clip, clips.sample_rate, WIDE)))
            for clip in clips.waveforms
        ]
        return Features(torch.stack(parts), torch.zeros(len(clips), 0), clips.indices, clips.labels)


SpeechExtractor = ClassifierExtractor | VoiceExtractor
"""Their `extract` gives features, and unnormalised log-probabilities of classes."""


class Utmos:
    """A network of opinions as TorchScript: waveforms (b, t) at 16 kHz to opinions (b,), 1 to 5.

    The published checkpoints of UTMOS are pickles, which nothing here opens; a TorchScript file of
    one, made elsewhere with torch.jit.save, is read without running Python.
    """

    published = False

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
        """Of one clip. Raises ValueError for a network that does not answer with one number."""
        samples = torch.from_numpy(resampled(waveform, rate, WIDE))[None].to(self.device)
        try:
            opinion = self.model(samples)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [repr(error)])[-1]
            raise ValueError(
                f"utmos={self.path} can't take {tuple(samples.shape)} samples ({reason}): set utmos"
            ) from None
        if not isinstance(opinion, Tensor) or opinion.shape != (1,):
            shape = tuple(opinion.shape) if isinstance(opinion, Tensor) else type(opinion).__name__
            raise ValueError(
                f"utmos={self.path} gives {shape} for one clip, it must give (1,): set utmos"
            )
        return float(opinion)


class Whisper:
    """A Whisper model of transformers that writes down English."""

    published = False

    def __init__(self, name: str, device: torch.device) -> None:
        self.processor = WhisperProcessor.from_pretrained(name)
        loaded: Any = WhisperForConditionalGeneration.from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        model, info = loaded
        if info["missing_keys"]:  # transformers would go on with random weights
            raise ValueError(f"it lacks {', '.join(sorted(info['missing_keys'])[:3])}")
        self.model = model.to(device).eval()
        # models of English alone take neither key
        multilingual = getattr(model.generation_config, "is_multilingual", False)
        self.options = {"language": "en", "task": "transcribe"} if multilingual else {}
        spelling = self.processor.tokenizer.english_spelling_normalizer
        self.normalised = EnglishTextNormalizer(spelling or {})
        folder = Path(str(cached_file(name, "config.json"))).parent
        weights = "".join(map(sha256, sorted(folder.glob("*.safetensors"))))
        self.name, self.sha256 = name, hashlib.sha256(weights.encode()).hexdigest()

    @torch.no_grad()
    def transcribe(self, waveforms: Sequence[Float[Tensor, " t"]], rate: int) -> list[str]:
        """The words of each clip, the likeliest one by one, as Whisper writes them."""
        texts: list[str] = []
        for start in range(0, len(waveforms), WHISPER_BATCH):
            clips = waveforms[start : start + WHISPER_BATCH]
            inputs = self.processor(
                [resampled(waveform, rate, WIDE) for waveform in clips],
                sampling_rate=WIDE,
                return_tensors="pt",
                return_attention_mask=True,
            ).to(self.model.device)
            codes = self.model.generate(**inputs, **self.options, do_sample=False, num_beams=1)
            texts += self.processor.batch_decode(codes, skip_special_tokens=True)
        return texts


def load_whisper(name: str | None, device: torch.device) -> Whisper | Unavailable:
    """The model of a folder or Hub name, or the reason why there is none."""
    if name is None:
        return NO_WHISPER
    try:
        return Whisper(name, device)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        return Unavailable(
            f"whisper={name} can't be loaded as a Whisper model in safetensors ({reason}): set whisper"
        )
