"""What is SimVQ in terms of dictionary learning? One atom for each vector, its coefficient free, rounded, or 1."""

import torch
from clustering import DATA, SEEDS, SIZE, k_means, measured, trained
from jaxtyping import Float, Int
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import bars, build, markdown, mean_sd
from torch import Tensor

from stage1_tokenizer.quantizers import SimVQ

ROUNDS = 30
FEW, VALUES = 16, 16
"""As many atoms and values of their coefficients as make the 8 bits of 256 codes."""


def sparse_one(vectors: Float[Tensor, "n d"], atoms: int) -> Float[Tensor, "k d"]:
    """K-SVD with one atom for each vector (Aharon et al. 2006): atoms of unit length, coefficients free.

    An atom becomes the first principal direction, through the origin, of the vectors that chose it.
    """
    dictionary = torch.nn.functional.normalize(vectors[torch.randperm(len(vectors))[:atoms]], dim=1)
    for _ in range(ROUNDS):
        chosen, _ = coefficients(vectors, dictionary)
        scatter = torch.zeros(atoms, vectors.shape[1], vectors.shape[1])
        scatter.index_add_(0, chosen, vectors[:, :, None] * vectors[:, None])
        directions = torch.linalg.eigh(scatter).eigenvectors[:, :, -1]
        used = chosen.bincount(minlength=atoms) > 0
        dictionary = torch.where(used[:, None], directions, dictionary)
    return dictionary


def coefficients(
    vectors: Float[Tensor, "n d"], dictionary: Float[Tensor, "k d"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The atom that each vector is nearest to a multiple of, and that multiple."""
    products = vectors @ dictionary.T
    chosen = products.abs().argmax(1)
    return chosen, products.gather(1, chosen[:, None]).squeeze(1)


def rounded(values: Float[Tensor, " n"], count: int) -> Float[Tensor, " n"]:
    """Each coefficient as the nearest of `count`, by Lloyd's algorithm from quantiles."""
    levels = values.quantile((torch.arange(count) + 0.5) / count)
    for _ in range(ROUNDS):
        nearest = (values[:, None] - levels).abs().argmin(1)
        sums = torch.zeros(count).index_add_(0, nearest, values)
        levels = sums / nearest.bincount(minlength=count).clamp_min(1)
    return levels[(values[:, None] - levels).abs().argmin(1)]


def dictionary_error(vectors: Float[Tensor, "n d"], atoms: int, values: int | None) -> float:
    """Squared error in units of the variance; `values` of the coefficients, free for None."""
    dictionary = sparse_one(vectors, atoms)
    chosen, coefficient = coefficients(vectors, dictionary)
    if values is not None:
        coefficient = rounded(coefficient, values)
    error = (vectors - coefficient[:, None] * dictionary[chosen]).square().mean()
    return float(error / vectors.var(0, correction=0).mean())


METHODS = {
    "k-means: 256 atoms, coefficient 1": ("8", lambda v: measured(v, k_means(v))[0]),
    "SimVQ: 256 fixed atoms under W, coefficient 1": (
        "8",
        lambda v: measured(v, trained(SimVQ)(v))[0],
    ),
    "16 atoms, 16 coefficients": ("8", lambda v: dictionary_error(v, FEW, VALUES)),
    "256 atoms, 16 coefficients": ("12", lambda v: dictionary_error(v, SIZE, VALUES)),
    "256 atoms, free coefficient": ("8 and a number", lambda v: dictionary_error(v, SIZE, None)),
}


def result(name: str, data: str, seed: int) -> float:
    """The error of one method for one seed of the data."""
    torch.manual_seed(seed)
    return METHODS[name][1](DATA[data]())


def write() -> Figure:
    """Prints the table; bars of the errors."""
    errors = {
        (name, data): [result(name, data, seed) for seed in SEEDS]
        for name in METHODS
        for data in DATA
    }
    lines = [
        [name, bits, *(mean_sd(errors[name, data]) for data in DATA)]
        for name, (bits, _) in METHODS.items()
    ]
    print(markdown(["", "bits of a vector", *DATA], lines))
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 2.6), layout="constrained", sharey=True)
    for data, axis in zip(DATA, axes, strict=True):
        bars(axis, data, {name: sum(errors[name, data]) / len(SEEDS) for name in METHODS})
    return figure


if __name__ == "__main__":
    build("dictionary", write)
