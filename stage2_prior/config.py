"""PriorConfig: the architecture of a prior, and the lengths and conditions that follow from it."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from common.bounds import Count, Share
from stage2_prior.decoding import Size, Style
from stage2_prior.orders import Order

Condition = Literal["none", "label", "speaker", "label+speaker", "text"]


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    codebook_size: Count
    """Codebook size, K, without special codes; with several codes per position, the size of the largest codebook."""
    code_dim: Count
    """Dimension of the tokenizer's code vectors."""
    length: int
    """Codes of the longest training sequence, counting every code of a position."""
    sizes: tuple[int, ...] = ()
    """The codebook size of each level; empty where a position has one code."""
    levels_by: Literal["flattened", "depth"] = "flattened"
    """How several codes of a position are predicted: `flattened`, as if each were a position; `depth`, by a
    small transformer of their own (`DepthPrior`)."""
    order: Order = "raster"
    """Order of codes in training; all but `raster` embed the places, and only `random` can sample in any order."""
    condition: Condition = "label"
    """What comes before the codes; a part of it that has no values is left out."""
    classes: int = 0
    """Number of labels."""
    speakers: int = 0
    """Number of speakers."""
    characters: str = ""
    """The characters that texts are made of, in lower case."""
    text_length: int = 0
    """Characters of the longest text; shorter ones are padded on the left with none."""
    min_codes: int = 1
    """Fewest codes of a sample; it never ends inside a position."""
    max_codes: int | None = None
    """Most codes of a sample; null for sequences that all have `length` codes and no end."""
    size: Size = "3m"
    """Size of the transformer: its parameters without the vocabulary."""
    style: Style = "llama"
    """Architecture of the layers."""
    head: Literal["learned", "codebook"] = "learned"
    """`learned`: two vectors for each code. `codebook`: the tokenizer's frozen codebook, with a learned linear map
    to the width at the input and one back at the output."""
    dropout: Share = 0.0
    """Of embeddings and attention, for gpt2 of residual branches too."""

    def __post_init__(self) -> None:
        if self.head == "codebook" and (self.levels > 1 or self.levels_by == "depth"):
            raise ValueError(
                f"head='codebook' is for one code per position, predicted by itself, but there are {self.levels} "
                f"and levels_by={self.levels_by!r}: set head=learned"
            )
        if self.length < 1 or self.length % self.levels:
            raise ValueError(
                f"length={self.length} must be a positive multiple of the {self.levels} codes of a position: set length"
            )
        self.check_lengths(self.min_codes, self.longest)

    def check_lengths(self, min_codes: int, max_codes: int) -> None:
        """Raises ValueError unless 1 <= min_codes <= max_codes and max_codes is a multiple of `levels`."""
        if max_codes % self.levels:
            raise ValueError(
                f"max_codes={max_codes} must be a multiple of the {self.levels} codes of a position: set max_codes"
            )
        if not 1 <= min_codes <= max_codes:
            raise ValueError(
                f"min_codes={min_codes} and max_codes={max_codes} must be at least 1, and the first not "
                "above the second: set min_codes or max_codes"
            )

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """The codebook size of each level, that is, of each code of a position."""
        return self.sizes or (self.codebook_size,)

    @property
    def levels(self) -> int:
        """Codes of one position."""
        return len(self.level_sizes)

    @property
    def ends(self) -> bool:
        """Whether sequences end: then K, after the codes, stands for the end among the targets."""
        return self.max_codes is not None

    @property
    def longest(self) -> int:
        """Codes of the longest sample."""
        return self.length if self.max_codes is None else self.max_codes

    @property
    def parts(self) -> dict[str, int]:
        """What the condition is made of, and how many values each part has beside none."""
        sizes = {"label": self.classes, "speaker": self.speakers, "text": len(self.characters)}
        names = self.condition.split("+")
        return {name: size for name, size in sizes.items() if size and name in names}

    @property
    def no_condition(self) -> tuple[int, ...]:
        """The entries of condition_embedding for no condition, one for each place of the prefix.

        Each part has a block of successive entries, the last of which stands for none. Guidance compares with these.
        """
        if "text" in self.parts:
            return (len(self.characters),) * self.text_length
        sizes = [size + 1 for size in self.parts.values()] or [1]
        return tuple(end - 1 for end in accumulate(sizes))

    @property
    def codes_per_input(self) -> int:
        """Codes that the body takes in at once."""
        return self.levels if self.levels_by == "depth" else 1

    @property
    def positions(self) -> int:
        """Length of the body's longest input, condition included; the last code is in it only if an end can follow."""
        longest = max(self.length, self.longest) // self.codes_per_input
        return len(self.no_condition) + longest - (not self.ends)

    @property
    def places(self) -> int:
        """Rows of each order embedding: one for each input of codes in the longest sequence, and one for its end."""
        return max(self.length, self.longest) // self.codes_per_input + self.ends
