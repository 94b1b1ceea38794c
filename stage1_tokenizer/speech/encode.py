"""Speech in encode: whole clips and their codes, labels, speakers and texts."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from datasets import Features, List, Value
from torch.nn.utils.rnn import pad_sequence

from common.codes import code_dtype
from stage1_tokenizer.config import EncodeConfig
from stage1_tokenizer.data import Row
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.speech.tokenizer import SpeechTokenizer

VIEW = "whole"
"""The one view of a clip."""


@dataclass(frozen=True, kw_only=True)
class EncodeSpeechConfig(EncodeConfig):
    """Writes the codes of whole clips: `simvq encode CONFIG [key=value ...]`."""

    modality: Literal["speech"] = "speech"
    """A file without this key is for images."""
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    batch_size: int = 16
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
            split: load_clips(config.data, split, sample_rate=rate)
            for split in ("train", "validation")
        }
        self.dtype = code_dtype(self.tokenizer.quantizer.spec.alphabet)
        self.columns = Features(
            item=Value("int64"),
            view=Value("string"),
            label=Value("int64"),
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
            "views": [VIEW],
            "speakers": list(self.splits["train"].speakers),
        }

    def views(self, split: str) -> tuple[str, ...]:
        """The views of each clip of a split."""
        return (VIEW,)

    def load(self, split: str, item: int, row: Row) -> dict[str, Any]:
        """One clip, decoded. Raises BadItemError."""
        clips = self.splits[split]
        return {
            "item": item,
            "label": clips.label(row),
            "speaker": clips.speaker(row),
            "text": clips.text(row),
            "waveform": clips.decode(row),
        }

    def encode(self, split: str, items: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The columns of a batch of clips, each with as many codes as its own length has.

        Several codes of one position stand one after the other.
        """
        lengths = torch.tensor([len(item["waveform"]) for item in items], device=self.device)
        waveforms = pad_sequence([item["waveform"] for item in items], batch_first=True)
        codes = self.tokenizer.encode(waveforms.to(self.device), lengths).cpu().numpy()
        copied = ("item", "label", "speaker", "text")
        return {name: [item[name] for item in items] for name in copied} | {
            "view": [VIEW] * len(items),
            "samples": lengths.tolist(),
            "codes": [clip[clip >= 0].astype(self.dtype) for clip in codes],
        }
