"""Speech in encode: whole clips and their codes, labels, speakers and texts."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from datasets import Features, List, Value
from torch.nn.utils.rnn import pad_sequence

from common.bounds import Count
from common.codes import code_dtype
from stage1_tokenizer.config import EncodeConfig
from stage1_tokenizer.data import Row
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.speech.tokenizer import SpeechTokenizer


@dataclass(frozen=True, kw_only=True)
class EncodeSpeechConfig(EncodeConfig):
    """Writes the codes of whole clips: `simvq encode CONFIG [key=value ...]`."""

    modality: Literal["speech"] = "speech"
    """A file without this key is for images."""
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    batch_size: Count = 16
    """Clips encoded at once; all are padded to the longest."""


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
        lengths = torch.tensor([len(item["waveform"]) for item in items], device=self.device)
        waveforms = pad_sequence([item["waveform"] for item in items], batch_first=True)
        codes = self.tokenizer.encode(waveforms.to(self.device), lengths).cpu().numpy()
        return {
            "speaker": [item["speaker"] for item in items],
            "text": [item["text"] for item in items],
            "samples": lengths.tolist(),
            "codes": [clip[clip >= 0].astype(self.dtype) for clip in codes],
        }
