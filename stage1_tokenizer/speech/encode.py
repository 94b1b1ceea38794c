"""What is particular to speech in encode: the request, the columns, recordings and their codes."""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Features, List, Value
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from common.config import to_plain
from common.hub import local_folder, sha256
from stage1_tokenizer.encode_config import EncodeSpeechConfig
from stage1_tokenizer.images.encode import code_dtype
from stage1_tokenizer.speech.data import Row, load_clips
from stage1_tokenizer.speech.tokenizer import SpeechTokenizer

VIEW = "whole"
"""The one view of a recording."""


@dataclass
class LoadedRecording:
    """One recording, in memory."""

    item: int
    label: int
    speaker: int
    text: str
    waveform: Tensor


class SpeechEncoding:
    """The parts of encoding recordings that `encode` calls."""

    def __init__(self, config: EncodeSpeechConfig, device: torch.device) -> None:
        self.config = config
        self.folder = local_folder(config.tokenizer)
        self.tokenizer = SpeechTokenizer.from_pretrained(self.folder).to(device)
        self.device = device
        rate = self.tokenizer.config.sample_rate
        self.splits = {
            split: load_clips(config.data, split, sample_rate=rate)
            for split in ("train", "validation")
        }

    @property
    def request(self) -> dict[str, Any]:
        """What the codes depend on: what a folder of them must agree with."""
        architecture, config = self.tokenizer.config, self.config
        return {
            "modality": config.modality,
            "tokenizer_sha256": sha256(self.folder / "model.safetensors"),
            "codebook_size": self.tokenizer.quantizer.spec.alphabet,
            "levels": self.tokenizer.quantizer.spec.levels,
            "sample_rate": architecture.sample_rate,
            "hop": architecture.hop,
            "views": [VIEW],
            "format": config.format,
            "shard_items": config.shard_items,
            "classes": list(self.splits["train"].classes),
            "speakers": list(self.splits["train"].speakers),
            "data": to_plain(config.data),
            "fingerprints": {name: split.fingerprint for name, split in self.splits.items()},
        }

    @property
    def features(self) -> Features:
        """The columns of a shard."""
        return Features(
            item=Value("int64"),
            view=Value("string"),
            label=Value("int64"),
            speaker=Value("int64"),
            text=Value("string"),
            samples=Value("int64"),
            codes=List(Value(code_dtype(self.tokenizer.quantizer.spec.alphabet))),
        )

    def views(self, split: str) -> tuple[str, ...]:
        """The views of each item of a split."""
        return (VIEW,)

    def load(self, split: str, item: int, row: Row) -> LoadedRecording:
        """One recording, decoded. Raises BadItemError."""
        recordings = self.splits[split]
        label, speaker, text = recordings.label(row), recordings.speaker(row), recordings.text(row)
        return LoadedRecording(item, label, speaker, text, recordings.decode(row))

    def encode(self, split: str, items: list[LoadedRecording]) -> dict[str, list[Any]]:
        """The columns of a batch of recordings, each with as many codes as its own length has.

        Several codes of one position stand one after the other.
        """
        lengths = torch.tensor([len(item.waveform) for item in items], device=self.device)
        waveforms = pad_sequence([item.waveform for item in items], batch_first=True)
        codes = self.tokenizer.encode(waveforms.to(self.device), lengths).cpu().numpy()
        dtype = code_dtype(self.tokenizer.quantizer.spec.alphabet)
        return {
            "item": [item.item for item in items],
            "view": [VIEW] * len(items),
            "label": [item.label for item in items],
            "speaker": [item.speaker for item in items],
            "text": [item.text for item in items],
            "samples": lengths.tolist(),
            "codes": [row[row >= 0].astype(dtype) for row in codes],
        }
