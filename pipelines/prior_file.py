"""The file of train-prior, which may say what its codes stand for, as the files of other verbs do."""

from dataclasses import dataclass, fields

from stage2_prior.train_config import TrainPriorConfig


@dataclass(frozen=True, kw_only=True)
class PriorFile(TrainPriorConfig):
    """Trains a prior over codes: `simvq train-prior CONFIG [key=value ...]`."""

    modality: str | None = None
    """Not needed: the codes' manifest knows it."""

    @property
    def config(self) -> TrainPriorConfig:
        """What the training is told."""
        return TrainPriorConfig(**{f.name: getattr(self, f.name) for f in fields(TrainPriorConfig)})
