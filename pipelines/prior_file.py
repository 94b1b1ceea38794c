"""The file of train-prior, which may say what its codes stand for, as the files of other verbs do."""

from dataclasses import dataclass

from stage2_prior.train_config import TrainPriorConfig


@dataclass(frozen=True, kw_only=True)
class PriorFile(TrainPriorConfig):
    """Trains a prior over codes: `simvq train-prior CONFIG [key=value ...]`."""

    modality: str | None = None
    """Not needed: the codes' manifest knows it."""
