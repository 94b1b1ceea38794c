"""Speech in encode: whole clips and their codes, labels, speakers and texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from datasets import Features, List, Value
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from common.bounds import Count
from common.codes import code_dtype
from stage1_tokenizer.config import EncodeConfig
from stage1_tokenizer.data import Row
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.speech.tokenizer import SpeechTokenizer

MOST_SAMPLES = 2**24
"""Most samples in a padded batch, 17 minutes at 16 kHz: a clip of an hour must not pad many short ones to an hour."""


@dataclass(frozen=True, kw_only=True)
class EncodeSpeechConfig(EncodeConfig):
    """Writes the codes of whole clips: `simvq encode CONFIG [key=value ...]`."""

    modality: Literal["speech"] = "speech"
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    batch_size: Count = 16
    """Clips encoded at once, fewer where padding them to the longest would take much memory."""


class SpeechEncoding:
    """Whole clips, and their codes."""

    config_class = EncodeSpeechConfig

    def __init__(self, config: EncodeSpeechConfig, device: torch.device) -> None:
        self.device = device
        self.tokenizer: SpeechTokenizer = SpeechTokenizer.from_pretrained(config.tokenizer).to(
            device
        )
        rate = self.tokenizer.config.sample_rate
        self.splits = {
            split: load_clips(config.data, split, sample_rate=rate) for split in config.data.splits
        }
        self.dtype = code_dtype(self.tokenizer.quantizer.spec.alphabet)
        self.columns = Features(
            speaker=Value("int64"),
            text=Value("string"),
            samples=Value("int64"),
            codes=List(Value(self.dtype)),
        )

    @property
    def layout(self) -> dict[str, Any]:
        """The rate of the samples, how many one position stands for, and who speaks."""
        return {
            "modality": "speech",
            "sample_rate": self.tokenizer.config.sample_rate,
            "hop": self.tokenizer.config.hop,
            "speakers": list(self.splits["train"].speakers),
        }

    def views(self, split: str) -> tuple[str, ...]:
        """The views of each clip of a split."""
        return ("whole",)

    def load(self, split: str, row: Row) -> dict[str, Any]:
        """One clip, decoded, who speaks and what is said. Raises BadItemError."""
        clips = self.splits[split]
        speaker, text = clips.speaker(row), clips.text(row)
        return {"waveform": clips.decode(row), "speaker": speaker, "text": text}

    def encode(self, split: str, items: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The codes of a batch of clips, each with as many as its own length has, and what belongs to them.

        Several codes of one position stand one after the other.
        """
        codes: list[Any] = []
        for waveforms in bounded([item["waveform"] for item in items]):
            lengths = torch.tensor([len(waveform) for waveform in waveforms], device=self.device)
            padded = pad_sequence(waveforms, batch_first=True).to(self.device)
            encoded = self.tokenizer.encode(padded, lengths).cpu().numpy()
            codes += [clip[clip >= 0].astype(self.dtype) for clip in encoded]
        return {
            "speaker": [item["speaker"] for item in items],
            "text": [item["text"] for item in items],
            "samples": [len(item["waveform"]) for item in items],
            "codes": codes,
        }


def bounded(
    waveforms: list[Float[Tensor, " _"]], most: int = MOST_SAMPLES
) -> Iterator[list[Float[Tensor, " _"]]]:
    """The waveforms in order, in batches of at most `most` samples when padded; a longer one by itself."""
    batch: list[Tensor] = []
    for waveform in waveforms:
        longest = max(len(each) for each in (*batch, waveform))
        if batch and longest * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(waveform)
    yield batch
