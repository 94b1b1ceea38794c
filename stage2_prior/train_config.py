"""The config of a prior's training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.bounds import Count, Share
from common.training import LoopConfig, OptimConfig
from stage2_prior.config import Condition
from stage2_prior.decoding import Size, Style
from stage2_prior.optimizers import Kind
from stage2_prior.orders import Order


@dataclass(frozen=True, kw_only=True)
class TrainPriorConfig(LoopConfig):
    """Trains a prior over codes: `simvq train-prior CONFIG [key=value ...]`."""

    codes: Path
    """The folder that `simvq encode` wrote."""
    tokenizer: Path
    """The `model/` folder of the tokenizer that made the codes."""
    condition: Condition | None = None
    """What is given to the prior: `none`, `label`, `speaker`, `label+speaker` or `text`; null for labels where the
    data set has them."""
    label_dropout: Share = 0.1
    """Share of the items whose condition is withheld, which is what classifier-free guidance needs."""
    min_codes: Count = 1
    """Fewest codes of a sample. Grids of codes, as of images, never end."""
    max_codes: Count | None = None
    """Most codes of a sample; null for 1.5 times the longest training clip, or the longest held-out clip if that has
    more."""
    size: Size = "3m"
    """Size of the transformer: its parameters without the vocabulary."""
    style: Style = "llama"
    """Architecture of the layers; `qwen3` is Llama with queries and keys normalised in each head (QK-norm)."""
    head: Literal["learned", "codebook"] = "learned"
    """`learned`: two vectors for each code; `codebook`: the tokenizer's codebook, frozen, between learned maps."""
    levels_by: Literal["flattened", "depth"] = "flattened"
    """How several codes of a position are predicted: `flattened`, as if each were a position; `depth`, by a
    small transformer of their own."""
    order: Order = "raster"
    """Order in which codes are learned: `raster`, from the first to the last; `random`, half of the sequences in a
    random order, so that codes anywhere can be kept and the rest sampled; `annealed`, all in random order for half of
    the training and none in the last quarter (RAR)."""
    dropout: Share = 0.0
    """Dropout of embeddings and attention, for gpt2 of residual branches too."""
    optimizer: Kind = "adamw"
    """`muon` trains the matrices of the transformer by Muon, all else by AdamW."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=4e-4, weight_decay=0.05))
    shard: bool = False
    """Give each process a part of weights, gradients and optimizer state (FSDP), for a prior that does not fit a GPU."""
    batch_size: Count = 256
    """Sequences of codes in one step, over all processes."""
    ema_decay: Share = 0.0
    """Decay of the averaged weights, which are then the ones validated, saved and sampled from; 0 turns it off."""

    def __post_init__(self) -> None:
        if self.shard and self.optimizer == "muon":
            raise ValueError(
                "shard=True cuts up the matrices that optimizer='muon' needs whole: set optimizer=adamw or shard=false"
            )
        if self.optimizer == "muon" and self.precision == "fp16":
            raise ValueError(
                "precision='fp16' scales gradients for one optimizer, and optimizer='muon' has two: set precision=bf16 or "
                "fp32, or optimizer=adamw"
            )
        if self.shard and self.precision == "fp16":
            raise ValueError(
                "shard=True is for precision fp32 and bf16, not fp16: set precision or shard=false"
            )
