"""SpeechPrior: the prior of pictures for sequences that end, with conditions of several parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stage2_prior.model import IGNORED, Prior, PriorConfig

Condition = Literal["none", "label", "speaker", "label+speaker", "text"]


@dataclass(frozen=True, kw_only=True)
class SpeechPriorConfig(PriorConfig):
    """The architecture; `length` is the number of codes of the longest training item."""

    condition: Condition = "none"
    """What comes before the codes."""
    speakers: int = 0
    """Number of speakers."""
    characters: str = ""
    """The characters that texts are made of, in lower case."""
    text_length: int = 0
    """Characters of the longest text; shorter ones are filled up on the left with the row for none."""
    min_codes: int = 1
    """No sample ends before it has so many codes; it never ends inside a position."""
    max_codes: int = 1
    """Every sample ends when it has so many codes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lengths(self.min_codes, self.max_codes, self.levels)

    @property
    def symbols(self) -> int:
        """The codes and, last, the end."""
        return self.codebook_size + 1

    @property
    def parts(self) -> dict[str, int]:
        """What the condition is made of, and how many values each part has beside none."""
        sizes = {"label": self.classes, "speaker": self.speakers, "text": len(self.characters)}
        return {name: size for name, size in sizes.items() if name in self.condition.split("+")}

    @property
    def condition_rows(self) -> int:
        """Rows of all tables one after the other, each with a last row for none."""
        return sum(size + 1 for size in self.parts.values()) or 1

    @property
    def no_condition(self) -> tuple[int, ...]:
        """The rows that stand for none, one for each place of the prefix."""
        ends = [0]
        for size in self.parts.values():
            ends.append(ends[-1] + size + 1)
        rows = tuple(end - 1 for end in ends[1:])
        return rows * self.text_length if self.condition == "text" else rows or (0,)

    @property
    def positions(self) -> int:
        longest = max(self.length, self.max_codes)
        return len(self.no_condition) + longest // self.codes_per_input


def check_lengths(min_codes: int, max_codes: int, levels: int) -> None:
    """Raises ValueError unless 1 <= min_codes <= max_codes, the second in whole positions."""
    if max_codes % levels:
        raise ValueError(
            f"max_codes={max_codes} must be a multiple of the {levels} codes of a position: set max_codes"
        )
    if not 1 <= min_codes <= max_codes:
        raise ValueError(
            f"min_codes={min_codes} and max_codes={max_codes} must be at least 1, and the first not "
            "above the second: set min_codes or max_codes"
        )


class SpeechPrior(Prior):
    """p(codes, end | condition). Symbol K is the end.

    Attention is causal, so that what stands past an item's end changes nothing before it.
    """

    config_class = SpeechPriorConfig
    config: SpeechPriorConfig

    def answers(self, codes: Int[Tensor, "b n"]) -> Int[Tensor, "b m"]:
        """What is to be predicted: the codes, the end after each item's last, and IGNORED after that."""
        lengths = (codes != IGNORED).sum(1, keepdim=True)
        longer = F.pad(codes, (0, self.config.codes_per_input), value=IGNORED)
        return longer.scatter(1, lengths, self.config.codebook_size)

    def targets(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The number of codes and ends."""
        return ((codes != IGNORED).sum() + len(codes)).float()

    def conditions(
        self,
        count: int,
        *,
        labels: Sequence[int] | None = None,
        speakers: Sequence[int] | None = None,
        texts: Sequence[str] | None = None,
    ) -> Int[Tensor, "b p"]:
        """The rows of the condition table for `count` items; what is left out is none.

        Raises ValueError for what this prior does not know.
        """
        config = self.config
        rows = torch.tensor(config.no_condition).repeat(count, 1)
        given = {"label": labels, "speaker": speakers, "text": texts}
        first = 0
        for name, values in given.items():
            if values is None:
                continue
            if name not in config.parts:
                raise ValueError(
                    f"{name}s were given, but this prior's condition is {config.condition!r}, one of "
                    f"{', '.join(get_args(Condition))}: leave {name}s out"
                )
            if len(values) != count:
                raise ValueError(f"{len(values)} {name}s for {count} samples: give one for each")
        for place, (name, size) in enumerate(config.parts.items()):
            if name == "text":
                return rows if texts is None else spelled(config, texts)
            numbers = labels if name == "label" else speakers
            for value in numbers or ():
                if not 0 <= value < size:
                    raise ValueError(
                        f"{name} {value}: this prior has {size} {name}s, counted from 0; leave "
                        f"{name}s out for none"
                    )
            if numbers is not None:
                rows[:, place] = first + torch.tensor(list(numbers))
            first += size + 1
        return rows


def spelled(config: SpeechPriorConfig, texts: Sequence[str]) -> Int[Tensor, "b p"]:
    """The characters of texts as rows of their table, at the right of the prefix.

    Raises ValueError for a text that is too long or has an unknown character.
    """
    rows = torch.tensor(config.no_condition).repeat(len(texts), 1)
    for row, text in zip(rows, texts, strict=True):
        unknown = sorted(set(text.lower()) - set(config.characters))
        if unknown:
            raise ValueError(
                f"text {text!r} has the character {unknown[0]!r}: this prior knows "
                f"{config.characters!r} (change texts)"
            )
        if len(text.lower()) > config.text_length:
            raise ValueError(
                f"text {text!r} has {len(text)} characters: this prior was trained on up to "
                f"{config.text_length} (shorten texts)"
            )
        numbers = [config.characters.index(character) for character in text.lower()]
        if numbers:
            row[-len(numbers) :] = torch.tensor(numbers)
    return rows
