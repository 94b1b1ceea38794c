"""Reads and writes means and covariances of features, which other projects publish as reference statistics.

Any .npz with `mu` and `sigma` can be read: ADM's reference batches (guided-diffusion's evaluator), clean-fid's and
pytorch-fid's. A file written here also has the number of items, and the name and hash of the feature network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from common.files import replaced_file, sha256
from pipelines.evaluation.features import Extractor


@dataclass(frozen=True)
class Statistics:
    """A Gaussian of features, from a file."""

    path: Path
    mu: Float[np.ndarray, " f"]
    sigma: Float[np.ndarray, "f f"]
    sha256: str
    """Of the file."""
    count: int | None = None
    """Items that it was computed from, where the file says so."""
    extractor: str | None = None
    """Name of the network that made the features, where the file says so."""
    extractor_sha256: str | None = None

    @property
    def gaussian(self) -> dict[str, Any]:
        """`mu` and `sigma`, as distances take them."""
        return {"mu": self.mu, "sigma": self.sigma}

    def fits(self, extractor: Extractor, dimensions: int) -> bool:
        """Whether an extractor's features have the file's dimensions, and the file names this extractor or none."""
        named = self.extractor is not None
        same = (self.extractor, self.extractor_sha256) == (extractor.name, extractor.sha256)
        return dimensions == len(self.mu) and (same or not named)


def write_statistics(
    path: Path, gaussian: dict[str, Any], extractor: Extractor, count: int
) -> None:
    """Writes `mu` and `sigma` in float64, whole or not at all, and what they were computed from."""
    with replaced_file(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            mu=gaussian["mu"],
            sigma=gaussian["sigma"],
            count=np.array(count),
            extractor=np.array(extractor.name),
            extractor_sha256=np.array(extractor.sha256),
        )


def read_statistics(path: Path) -> Statistics:
    """The statistics of a file. Nothing is unpickled. Raises ValueError for a file without them, or with wrong ones."""
    if not path.is_file():
        raise ValueError(f"statistics={path} is not a file: set score.statistics")
    try:
        with np.load(path, allow_pickle=False) as saved:
            mu, sigma = (np.asarray(saved[key], dtype=np.float64) for key in ("mu", "sigma"))
            about = {
                key: saved[key].item()
                for key in ("count", "extractor", "extractor_sha256")
                if key in saved
            }
    except (OSError, KeyError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(
            f"statistics={path} is not an .npz with arrays mu and sigma ({reason}): set score.statistics"
        ) from None
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(
            f"statistics={path} has mu of shape {mu.shape} and sigma of {sigma.shape}, they must be (f,) and (f, f): "
            "set score.statistics"
        )
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all() and np.allclose(sigma, sigma.T)):
        raise ValueError(
            f"statistics={path} has values that are not finite, or a sigma that is not symmetric: set score.statistics"
        )
    return Statistics(path, mu, sigma, sha256(path), **about)
