"""What a prior's training run is told: the loop's own keys, and those of each modality."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.training import LoopConfig, OptimConfig
from stage2_prior.model import Size
from stage2_prior.speech_model import Condition


@dataclass(frozen=True, kw_only=True)
class TrainPriorLoopConfig(LoopConfig):
    """What the loop itself reads, whatever the codes stand for."""

    codes: Path
    """The folder that `simvq encode` wrote."""
    tokenizer: Path
    """The `model/` folder of the tokenizer that made the codes."""
    label_dropout: float = 0.1
    """Share of the rows whose condition is withheld, which is what guidance needs."""
    size: Size = "3m"
    style: Literal["llama", "gpt2"] = "llama"
    head: Literal["learned", "codebook"] = "learned"
    """See `PriorConfig`."""
    levels_by: Literal["flattened", "depth"] = "flattened"
    """For quantizers with several codes per position; see `PriorConfig`."""
    dropout: float = 0.0
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=4e-4, weight_decay=0.05))
    batch_size: int = 256
    """Rows of codes in one step, over all processes."""
    ema_decay: float = 0.0
    """Of the averaged weights, which are then the ones validated, saved and sampled from; 0 turns it off."""


@dataclass(frozen=True, kw_only=True)
class TrainPriorConfig(TrainPriorLoopConfig):
    """Trains a prior over codes of pictures: `simvq train-prior CONFIG [key=value ...]`."""

    modality: Literal["images"] = "images"
    """The key by which a file says what it is for: `speech` is TrainSpeechPriorConfig's."""
    conditional: bool = True
    """Whether labels, where the data set has them, are given to the prior."""


@dataclass(frozen=True, kw_only=True)
class TrainSpeechPriorConfig(TrainPriorLoopConfig):
    """Trains a prior over codes of recordings: `simvq train-prior CONFIG [key=value ...]`."""

    modality: Literal["speech"] = "speech"
    """A file without this key is for pictures."""
    condition: Condition = "none"
    """What is given to the prior: `none`, `label`, `speaker`, `label+speaker` or `text`."""
    min_codes: int = 1
    """No sample ends before it has so many codes."""
    max_codes: int | None = None
    """Every sample ends when it has so many codes; null for 1.5 times the longest training clip."""
