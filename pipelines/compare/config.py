"""What compare reads: one experiment, and the quantizers that go through it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.bounds import Count, Positive, Whole


@dataclass(frozen=True, kw_only=True)
class CompareRow:
    """One line of the table."""

    name: str
    """What the line is called."""
    codebook_size: Count
    """The codebook size K to compare it at; marked if a position does not carry log2 K bits."""
    quantizer: dict[str, Any] = field(default_factory=dict)
    """All keys of model.quantizer, `method` first; they replace those of the experiment."""
    tokenizer: Path | None = None
    """The folder `model` of a tokenizer that was trained elsewhere, in place of a quantizer to train."""
    seeds: tuple[Whole, ...] | None = None
    """In place of the study's own."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Further changes to the experiment, for this line alone."""
    tune: dict[str, list[int | float]] = field(default_factory=dict)
    """Keys to tune, one after the other, and the values to try, in place of `weight` and the study's learning rates. A
    key with a dot, such as optim.lr, is of the experiment's section tokenizer, another one of quantizer."""

    def __post_init__(self) -> None:
        if bool(self.quantizer) == (self.tokenizer is not None):
            raise ValueError(
                f"row {self.name!r} needs either quantizer or tokenizer: set one of them"
            )
        if self.tune and self.tokenizer is not None:
            raise ValueError(
                f"row {self.name!r} has a trained tokenizer, which tune can't change: set one of them"
            )
        refuse_repeated(self.seeds or (0,), f"row {self.name!r}: ")
        if not all(self.tune.values()):
            raise ValueError(
                f"row {self.name!r}: tune={self.tune} must have at least one value for each key: set tune"
            )

    @property
    def code_dim(self) -> int | None:
        """The key code_dim of its quantizer, where it is set."""
        return self.quantizer.get("code_dim")


@dataclass(frozen=True, kw_only=True)
class CompareTuning:
    """Trainings of the tokenizer that choose the weight of each quantizer's losses, and then the learning rate."""

    steps: Whole = 0
    """Steps of each tuning run; 0 turns tuning off."""
    factors: tuple[Positive, ...] = (0.3, 1.0, 3.0)
    """Multiples of the row's own `weight` to try, where its quantizer has that key."""
    learning_rates: tuple[Positive, ...] = ()
    """Values of tokenizer.optim.lr to try after the weight; an empty list leaves it as it is."""
    codebook_size: Count | None = None
    """Rows of the same name use the tuning of the row with this codebook_size; null tunes each by itself."""

    def __post_init__(self) -> None:
        if not self.factors:
            raise ValueError("factors=() must have at least one value: set tuning.factors")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Sends several quantizers through the same two stages: `simvq compare CONFIG [key=value ...]`."""

    experiment: Path
    """The recipe that all rows share, a file or a name: data, networks, losses, schedule, prior, sampling, scores."""
    out: Path
    """The folder of all runs, compare.csv, compare.md, compare.png and compare.html; running again resumes."""
    rows: tuple[CompareRow, ...] = ()
    """The lines of the table: each a quantizer, or the tokenizer of another run."""
    seeds: tuple[Whole, ...] = (0,)
    """Every row runs once with each seed, for tokenizer, prior and samples."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Changes to the experiment for all rows, in the form of its file. Where they set `score.classifier` to the folder
    `model` of a trained classifier, the study trains none, and its distances can be compared with those of other
    studies that use it."""
    at_once: Count = 1
    """Rows that run at the same time, each in a process of its own with an equal share of the threads."""
    tuning: CompareTuning = field(default_factory=CompareTuning)
    """Short trainings that tune each row before its runs, with the study's first seed; tuning.csv has every score."""

    def __post_init__(self) -> None:
        names = [(row.name, row.codebook_size, row.code_dim) for row in self.rows]
        repeated = [name for name in names if names.count(name) > 1]
        if not names or repeated:
            raise ValueError(
                f"rows={names} must be there and differ in name, codebook_size or code_dim: set rows"
            )
        if not self.seeds:
            raise ValueError("seeds=() must have at least one value: set seeds")
        refuse_repeated(self.seeds)
        tuned = [row.name for row in self.rows if row.tune]
        if tuned and not self.tuning.steps:
            raise ValueError(f"rows {tuned} have tune while tuning.steps=0: set tuning.steps")


def refuse_repeated(seeds: tuple[int, ...], at: str = "") -> None:
    """Raises ValueError for a seed that is there twice, of which the runs would share a folder."""
    if len({*seeds}) < len(seeds):
        raise ValueError(f"{at}seeds={seeds} must have no value twice: set seeds")
