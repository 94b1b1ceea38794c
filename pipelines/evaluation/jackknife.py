"""How sure a Frechet distance is of itself: the same distance without each tenth of the items."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh, eigvalsh
from torch import Tensor

from common.seeding import epoch_order

GROUPS = 10
"""Parts that are left out in turn; chosen at random, for samples come in the order of their labels."""
STUDENT_95 = 2.262
"""Standard errors within which 95 % lie, where the error comes from ten values."""


@dataclass(frozen=True)
class Moments:
    """Count and sums over a set of items: they give mean and covariance, and can be added and subtracted."""

    count: int
    total: Float[np.ndarray, " f"]
    outer: Float[np.ndarray, "f f"]

    @classmethod
    def of(cls, items: Float[np.ndarray, "n f"]) -> Self:
        return cls(len(items), items.sum(0), items.T @ items)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.count - other.count, self.total - other.total, self.outer - other.outer)

    @property
    def mu(self) -> Float[np.ndarray, " f"]:
        return self.total / self.count

    @property
    def sigma(self) -> Float[np.ndarray, "f f"]:
        return (self.outer - np.outer(self.total, self.mu)) / (self.count - 1)


@dataclass(frozen=True)
class Target:
    """A Gaussian that many others are compared with: the root of its covariance is taken once."""

    mu: Float[np.ndarray, " f"]
    root: Float[np.ndarray, "f f"]
    """The symmetric root of the covariance."""
    trace: float

    @classmethod
    def of(cls, gaussian: dict[str, Any]) -> Self:
        """That of `mu` and `sigma`."""
        values, vectors = eigh(gaussian["sigma"])
        root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        return cls(gaussian["mu"], root, float(np.trace(gaussian["sigma"])))

    def distance(self, other: Moments) -> float:
        """The Frechet distance to a Gaussian whose moments are about `mu`.

        It is |m|^2 + tr S + tr S' - 2 tr (S^1/2 S' S^1/2)^1/2, where m is the mean about `mu`.
        """
        sigma = other.sigma
        values = eigvalsh(self.root @ sigma @ self.root).clip(0)
        apart = float(np.square(other.mu).sum())
        return apart + self.trace + float(np.trace(sigma)) - 2 * float(np.sqrt(values).sum())


def distances(
    features: Float[Tensor, "n f"], target: Target, seed: int, parts: int = 1
) -> Float[np.ndarray, " _"]:
    """The distance of all items, then the distances without each tenth of them.

    With `parts` > 1 the items are split into that many parts, and each value is the mean over the parts. The tenths
    are the same items for any number of parts.
    """
    items = features.double().numpy() - target.mu  # few digits are lost in the sums
    order = epoch_order(len(items), seed, epoch=0).numpy()
    values = []
    for part in range(parts):
        groups = [Moments.of(items[order[group::GROUPS][part::parts]]) for group in range(GROUPS)]
        whole = sum(groups[1:], start=groups[0])
        values.append(
            [target.distance(whole), *(target.distance(whole - group) for group in groups)]
        )
    return np.mean(values, axis=0)


def half_interval(values: Float[np.ndarray, " _"]) -> float:
    """Half of the 95 % interval of `values[0]`, the value of all items; the others are without each group."""
    without = values[1:]
    error = np.sqrt((GROUPS - 1) / GROUPS * np.square(without - without.mean()).sum())
    return float(STUDENT_95 * error)
