"""What a tokenizer's training run is told: the loop's own keys, and those of each modality."""

from dataclasses import dataclass, field
from typing import Literal

from common.training import LoopConfig, OptimConfig
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.images.tokenizer import ImageTokenizerConfig
from stage1_tokenizer.speech.data import SpeechDataConfig
from stage1_tokenizer.speech.losses import SpeechLossConfig
from stage1_tokenizer.speech.tokenizer import SpeechTokenizerConfig


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig(LoopConfig):
    """What the loop itself reads, whatever the items are."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    quantizer_lr: float = 1e-3
    """Of what the quantizer learns, SimVQ's W and b or a table of codes: constant, while the rest warms up
    and anneals (StableVQ: annealing W loses codes)."""
    basis_lr: float = 1e-4
    """Of SimVQ's C, where model.quantizer.train_basis is on: constant."""
    batch_size: int = 64
    """Items (pictures, or crops of recordings) in one step, over all processes."""
    ema_decay: float = 0.999
    """Of the averaged weights, which are what is saved and scored; 0 turns averaging off."""


@dataclass(frozen=True, kw_only=True)
class TrainImageTokenizerConfig(TrainTokenizerConfig):
    """Trains a tokenizer of pictures: `simvq train-tokenizer CONFIG [key=value ...]`."""

    modality: Literal["images"] = "images"
    """The key by which a file says what it is for: `speech` is TrainSpeechTokenizerConfig's."""
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    model: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    loss: ImageLossConfig = field(default_factory=ImageLossConfig)
    random_crop: bool = False
    """Crop at random rather than in the centre."""
    flip: bool = False
    """Mirror half of the pictures."""


@dataclass(frozen=True, kw_only=True)
class TrainSpeechTokenizerConfig(TrainTokenizerConfig):
    """Trains a tokenizer of speech: `simvq train-tokenizer CONFIG [key=value ...]`."""

    modality: Literal["speech"] = "speech"
    """A file without this key is for pictures."""
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    """Its crop_seconds, gain_db and silence_db shape what is trained on."""
    model: SpeechTokenizerConfig = field(default_factory=SpeechTokenizerConfig)
    loss: SpeechLossConfig = field(default_factory=SpeechLossConfig)
