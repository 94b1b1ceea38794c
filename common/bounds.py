"""Types of config numbers with bounds: `steps: Count = 100`. The loader checks them; infinity and nan never pass."""

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Within:
    """The interval from `low` to `high`, both included; with `above`, `low` itself is excluded."""

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and self.low <= value <= self.high
            and not (self.above and value == self.low)
        )

    def __str__(self) -> str:
        """In words, for messages."""
        if self.high < math.inf:
            start = f"above {self.low:g} and at most" if self.above else f"from {self.low:g} to"
            return f"{start} {self.high:.10g}"
        return f"above {self.low:g}" if self.above else f"at least {self.low:g}"


Count = Annotated[int, Within(1)]
AtLeastTwo = Annotated[int, Within(2)]
Whole = Annotated[int, Within(0)]
Seed = Annotated[int, Within(0, 2**32 - 1)]
"""On a CPU, torch's generator uses only the last 32 bits of a seed: a larger one would equal a smaller one."""
NonNegative = Annotated[float, Within(0)]
Positive = Annotated[float, Within(0, above=True)]
Share = Annotated[float, Within(0, 1)]
