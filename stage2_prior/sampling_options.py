"""How codes are chosen: the options of sampling, with what each allows."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

Schedule = Literal["constant", "linear", "power-cosine"]
WINDOW = 10
"""Last codes in which repetitions are counted (VALL-E 2, arXiv 2406.05370)."""
NUMBERS = ("guidance", "power", "temperature", "top_p")
WHOLES = ("top_k", "min_codes", "max_codes", "repetitions")
"""Options that must be numbers, and options that must be whole numbers; all WHOLES but top_k may be None."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How codes are chosen."""

    guidance: float = 1.0
    """The scale s of logits = u + s (c - u), where u is without condition; 1 is no guidance. Classifier-free guidance
    (arXiv 2207.12598), whose w is s - 1."""
    schedule: Schedule = "constant"
    power: float = 2.0
    """How the scale grows along the sequence: see `guidance_at`."""
    temperature: float = 1.0
    """What logits are divided by; 0 takes the likeliest code."""
    top_k: int = 0
    """Only the k likeliest codes are chosen from; 0 for all."""
    top_p: float = 1.0
    """Only the fewest codes that together have this probability are chosen from: nucleus sampling (arXiv 1904.09751)."""
    min_codes: int | None = None
    max_codes: int | None = None
    """Lengths of samples; null for the prior's own."""
    repetitions: int | None = None
    """A code that occurs more often among the last WINDOW of its level is replaced by one from the whole
    distribution; null never replaces."""

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            known = ", ".join(get_args(Schedule))
            raise ValueError(f"schedule={self.schedule!r} must be one of {known}")
        for name in (*NUMBERS, *WHOLES):
            value, number = getattr(self, name), name in NUMBERS
            if value is None and name in WHOLES[1:]:
                continue
            if isinstance(value, bool) or not isinstance(value, Real if number else Integral):
                raise ValueError(f"{name}={value!r} must be a {'' if number else 'whole '}number")
        if not (math.isfinite(self.guidance) and 0 <= self.power < math.inf):
            raise ValueError(
                f"guidance={self.guidance} must be finite and power={self.power} 0 or more"
            )
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature} must be 0 or more")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_k={self.top_k} must be 0 or more and top_p={self.top_p} above 0 and at most 1"
            )
        if self.repetitions is not None and self.repetitions < 0:
            raise ValueError(
                f"repetitions={self.repetitions} must be 0 or more, or None for no replacement"
            )
