"""Words that Whisper hears in recordings, and how many of them are wrong."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor
from torchaudio.functional import edit_distance
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
from transformers.utils import cached_file

from common.hub import sha256
from pipelines.evaluation.speech.data import Clips, spoken
from pipelines.evaluation.speech.metrics import WIDE, resampled
from pipelines.evaluation.table import Number

BATCH = 8
"""SpeechDataset that Whisper hears at once."""
LONGEST = 30
"""Seconds that Whisper hears of a recording; it is not asked about longer ones."""
Said = tuple[Float[Tensor, " t"], str]
"""A recording, and the words that are said in it."""


class WhisperJudge:
    """A Whisper model of transformers, who listens for English."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.processor = WhisperProcessor.from_pretrained(name)
        loaded: Any = WhisperForConditionalGeneration.from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        model, found = loaded
        if found["missing_keys"]:  # transformers would listen with random weights
            raise ValueError(f"it lacks {', '.join(sorted(found['missing_keys'])[:3])}")
        self.model = model.to(device).eval()
        # models of English alone take neither key
        many = getattr(model.generation_config, "is_multilingual", False)
        self.asked = {"language": "en", "task": "transcribe"} if many else {}
        spelling = self.processor.tokenizer.english_spelling_normalizer
        self.normalised = EnglishTextNormalizer(spelling or {})
        folder = Path(str(cached_file(name, "config.json"))).parent
        weights = "".join(map(sha256, sorted(folder.glob("*.safetensors"))))
        self.name, self.sha256 = name, hashlib.sha256(weights.encode()).hexdigest()

    @torch.no_grad()
    def heard(self, waveforms: Sequence[Float[Tensor, " t"]], rate: int) -> list[str]:
        """The words of each recording, the likeliest one by one, as Whisper writes them."""
        found = []
        for start in range(0, len(waveforms), BATCH):
            inputs = self.processor(
                [resampled(waveform, rate, WIDE) for waveform in waveforms[start : start + BATCH]],
                sampling_rate=WIDE,
                return_tensors="pt",
                return_attention_mask=True,
            ).to(self.model.device)
            codes = self.model.generate(**inputs, **self.asked, do_sample=False, num_beams=1)
            found += self.processor.batch_decode(codes, skip_special_tokens=True)
        return found


def whisper_judge(name: str | None, device: torch.device) -> WhisperJudge | str:
    """The judge of a folder or Hub name, or the reason why there is none."""
    if name is None:
        return "there is no recogniser of words: set whisper to the folder or Hub name of a Whisper model"
    try:
        return WhisperJudge(name, device)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        return f"whisper={name} can't be loaded as a Whisper model in safetensors ({reason}): set whisper"


def words_said(clips: Clips) -> list[str]:
    """The text of each recording, or else its label as it is said; nothing where neither is known."""
    if clips.texts:
        return list(clips.texts)
    words = spoken(clips.classes)
    return [words[label] for label in clips.labels.tolist()] if words else []


def word_error_rate(judge: WhisperJudge | str, said: Sequence[Said], rate: int) -> Number:
    """Wrong, missing and added words as a share of all that are said, or why it can't be told."""
    if isinstance(judge, str):
        return Number(value=None, reason=judge)
    asked = [(waveform, text) for waveform, text in said if len(waveform) <= LONGEST * rate]
    texts = [judge.normalised(text) for _, text in asked]
    heard = judge.heard([waveform for waveform, _ in asked], rate)
    errors, words = word_errors(texts, [judge.normalised(text) for text in heard])
    if words == 0:
        return Number(
            value=None, reason=f"none of {len(said)} clips has words in at most {LONGEST} s"
        )
    note = f"{errors:,} errors in {words:,} words, as Whisper's normalizer of English writes them"
    if len(asked) < len(said):
        note += f"; {len(said) - len(asked)} of {len(said)} counted out: longer than {LONGEST} s"
    return Number(
        value=errors / words,
        count=len(asked),
        note=note,
        extractor=judge.name,
        extractor_sha256=judge.sha256,
    )


def word_errors(texts: Sequence[str], heard: Sequence[str]) -> tuple[int, int]:
    """How many words are wrong, missing or added in all, and how many there are in the texts."""
    pairs = [(text.split(), guess.split()) for text, guess in zip(texts, heard, strict=True)]
    return sum(edit_distance(*pair) for pair in pairs), sum(len(text) for text, _ in pairs)
