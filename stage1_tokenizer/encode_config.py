"""What encode is told: the keys that all modalities share, and those of each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stage1_tokenizer.images.data import VIEWS, ImageDataConfig
from stage1_tokenizer.speech.data import SpeechDataConfig


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What encode reads, whatever the items are."""

    tokenizer: Path
    """The `model/` folder of a tokenizer, or its name on the Hub."""
    out: Path
    """The folder of the codes; running again goes on with the shards that are missing."""
    shard_items: int = 4096
    """Items in one shard."""
    threads: int = 4
    """Threads that decode items."""
    format: Literal["arrow", "parquet"] = "arrow"


@dataclass(frozen=True, kw_only=True)
class EncodeImagesConfig(EncodeConfig):
    """Writes the codes of pictures: `simvq encode CONFIG [key=value ...]`."""

    modality: Literal["images"] = "images"
    """The key by which a file says what it is for: `speech` is EncodeSpeechConfig's."""
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    views: tuple[str, ...] = ("centre",)
    """Of each training item: `centre`, `top-left`, `top-right`, `bottom-left`, `bottom-right`, and each of them
    with `-flip`. All ten are LlamaGen's ten-crop. Held-out items have the one view `centre`."""
    batch_size: int = 256
    """ImageDataset encoded at once."""

    def __post_init__(self) -> None:
        known = [place + flip for flip in ("", "-flip") for place in VIEWS]
        for name in self.views:
            if name not in known:
                raise ValueError(f"view {name!r} is not one of {', '.join(known)}: set views")


@dataclass(frozen=True, kw_only=True)
class EncodeSpeechConfig(EncodeConfig):
    """Writes the codes of whole recordings: `simvq encode CONFIG [key=value ...]`."""

    modality: Literal["speech"] = "speech"
    """A file without this key is for pictures."""
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    """Its crop_seconds, gain_db and silence_db are for training and not used here."""
    batch_size: int = 16
    """SpeechDataset encoded at once; all are padded to the longest."""
