"""What train-tokenizer and encode read, whatever the items are; images/ and speech/ add their own keys."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from common.bounds import Count, NonNegative, Share, Whole
from common.config import build, read_values
from common.training import LoopConfig, OptimConfig
from stage1_tokenizer.data import DataConfig

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class AdversarialLossConfig:
    """The keys of a discriminator."""

    adversarial_weight: NonNegative = 1.0
    """Weight of the adversarial loss; 0 turns the discriminator off."""
    adversarial_start: Whole = 0
    """The step from which the discriminator is trained and the adversarial loss counts."""
    discriminator_lr: NonNegative = 1e-4
    """Peak learning rate of the discriminator, on the same schedule as the networks'."""

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator at all."""
        return self.adversarial_weight > 0


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig(LoopConfig):
    """The keys of the training loop."""

    modality: str
    data: DataConfig
    loss: AdversarialLossConfig
    freeze: tuple[Literal["encoder", "codebook"], ...] = ()
    """Parts that keep the weights of `init_from`; with `[encoder, codebook]` existing codes and priors stay valid."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    quantizer_lr: NonNegative = 1e-3
    """Learning rate of the quantizer (SimVQ's W and b, or a codebook); constant, without optim.lr's warmup and decay,
    because annealing W loses codes (StableVQ)."""
    basis_lr: NonNegative = 1e-4
    """Learning rate of SimVQ's C if model.quantizer.train_basis is on; constant."""
    batch_size: Count = 64
    """Items (images, or parts of clips) in one step, over all processes."""
    ema_decay: Share = 0.999
    """Decay of the moving average of the weights, which is evaluated and saved; 0 turns averaging off."""

    def __post_init__(self) -> None:
        if self.freeze and self.init_from is None:
            raise ValueError(
                f"freeze={[*self.freeze]} keeps weights that were trained before: set init_from, or leave freeze out"
            )
        if self.loss.adversarial and self.optim.lr == 0:
            raise ValueError(
                "optim.lr=0 leaves the discriminator, which follows its schedule, without one: set optim.lr, or "
                "loss.adversarial_weight=0"
            )


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """The keys of encoding."""

    modality: str
    data: DataConfig
    batch_size: Count
    tokenizer: Path
    """The `model/` folder of a tokenizer, or its name on the Hub."""
    out: Path
    """The folder of the codes; running again goes on with the shards that are missing."""
    shard_items: Count = 4096
    """Items in one shard."""
    threads: Count = 4
    """Threads that decode items."""
    format: Literal["arrow", "parquet"] = "arrow"
    """Format of the shards."""
    shared: bool = False
    """Whether several encode commands, on any machines, fill the folder together, each taking shards that no other
    has."""


def load_saved_config(schema: type[Config], path: Path) -> Config:
    """The config.yaml of a run, also of one from before augmentation was a group of its own."""
    values: dict[str, Any] = dict(read_values(path))
    data = values.get("data") or {}
    of_clips = ("crop_seconds", "silence_db", "gain_db")
    augment = {key: data.pop(key) for key in of_clips if key in data}
    if "random_crop" in values:
        augment = {"crop": values.pop("random_crop"), "flip": values.pop("flip")}
    if augment and "augment" in {key.name for key in fields(schema)}:  # type: ignore[arg-type]
        values["augment"] = augment
    return build(schema, values)
