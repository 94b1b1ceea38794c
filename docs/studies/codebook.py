"""The use of C or of C W + b? What is counted, what is measured, and what C's initialisation changes."""

import math

import torch
from clustering import BATCH, COUNT, DIM, SIZE, fit
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown, mean_sd
from torch import Tensor

from stage1_tokenizer.codebook_usage import effective_rank
from stage1_tokenizer.quantizers import SimVQ
from stage1_tokenizer.quantizers.search import nearest

STEPS, DRIFT_STEPS, DRIFT_SEEDS = 400, 500, (0, 1)
RANKS = (DIM, 4, 1, 0)
INITS = ("Gaussian", "uniform", "sphere")
SPREADS = {"0.01": 0.01, "d^-1/2": DIM**-0.5, "1": 1.0}


def stretched(seed: int) -> Float[Tensor, "n d"]:
    """Vectors of a Gaussian whose standard deviations fall from 1 to 0.1 over the dimensions."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COUNT, DIM, generator=generator) * torch.logspace(0, -1, DIM)


def trained(vectors: Float[Tensor, "n d"], seed: int) -> SimVQ:
    """SimVQ after training on the vectors, without an encoder."""
    torch.manual_seed(seed)
    quantizer = SimVQ(codebook_size=SIZE, code_dim=DIM)
    fit(quantizer, lambda step: vectors[torch.randint(COUNT, (1, BATCH))], STEPS)
    return quantizer


@torch.no_grad()
def truncate(quantizer: SimVQ, rank: int) -> None:
    """Sets W to its nearest matrix of this rank; b stays."""
    weight = quantizer.projection.weight
    u, values, v = torch.linalg.svd(weight)
    values[rank:] = 0
    weight.copy_(u @ values.diag() @ v)


def counts(quantizer: SimVQ, vectors: Float[Tensor, "n d"]) -> list[int]:
    """Used: indices, different vectors of C at them, different vectors of C W + b; indices of a search in C."""
    codes, codebook = quantizer.encode(vectors), quantizer.codebook.detach()
    chosen = codes.unique()
    of_basis, of_codebook = quantizer.basis[chosen], codebook[chosen]
    sets = (chosen, of_basis.unique(dim=0), of_codebook.unique(dim=0))
    return [*map(len, sets), len(nearest(vectors, quantizer.basis).unique())]


def geometry(codes: Float[Tensor, "k d"]) -> list[float]:
    """Rank, effective rank, root mean square distance from the mean, mean distance to the nearest other."""
    centred = codes - codes.mean(0)
    distances = torch.cdist(codes, codes, compute_mode="donot_use_mm_for_euclid_dist")
    to_nearest = distances.fill_diagonal_(math.inf).min(1).values.mean()
    rank = int(torch.linalg.matrix_rank(centred, atol=1e-4))  # above what rounding leaves of b - b
    scale = centred.square().sum(1).mean().sqrt()
    return [rank, effective_rank(codes) if rank else 0.0, float(scale), float(to_nearest)]


def new_basis(init: str, spread: float) -> Float[Tensor, "k d"]:
    """Rows with this standard deviation in each dimension: N(0, 1), uniform, or all of one length."""
    if init == "uniform":
        return spread * math.sqrt(3) * (torch.rand(SIZE, DIM) * 2 - 1)
    basis = torch.randn(SIZE, DIM)
    if init == "sphere":
        basis = math.sqrt(DIM) * basis / basis.norm(dim=1, keepdim=True)
    return spread * basis


def after_drift(init: str, spread: float, bias: bool, seed: int) -> list[float]:
    """Share used and squared error by the variance, 1, after the mean of N(0, I) moved by ten."""
    torch.manual_seed(seed)
    quantizer = SimVQ(codebook_size=SIZE, code_dim=DIM, bias=bias, rescale=False)
    quantizer.basis.copy_(new_basis(init, spread))
    shift = 10 / math.sqrt(DIM) / DRIFT_STEPS
    fit(quantizer, lambda step: torch.randn(1, BATCH, DIM) + step * shift, DRIFT_STEPS)
    vectors = torch.randn(COUNT, DIM) + DRIFT_STEPS * shift
    codes = quantizer.encode(vectors)
    error = (vectors - quantizer.lookup(codes)).detach().square().mean()
    return [len(codes.unique()) / SIZE, float(error)]


def print_ranks() -> None:
    """A table of the codebook of one training run, W cut down step by step."""
    vectors, lines = stretched(0), []
    quantizer = trained(vectors, 0)
    shape = [f"{value:.3g}" for value in geometry(quantizer.basis)]
    lines.append(["C", "", "", "", "", *shape])
    for rank in RANKS:
        truncate(quantizer, rank)
        shape = [f"{value:.3g}" for value in geometry(quantizer.codebook.detach())]
        lines.append([f"C W + b, W of rank {rank}", *map(str, counts(quantizer, vectors)), *shape])
    used = ["indices", "vectors of C", "vectors of C W + b", "search in C"]
    print(markdown(["", *used, "rank", "effective rank", "scale", "nearest"], lines))


def write() -> Figure:
    """Prints both tables; the share used after the drift against C's scale."""
    print_ranks()
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    lines = []
    for bias, axis in zip((True, False), axes, strict=True):
        for init in INITS:
            line = []
            for name, spread in SPREADS.items():
                runs = [after_drift(init, spread, bias, seed) for seed in DRIFT_SEEDS]
                share, error = zip(*runs, strict=True)
                percent = [100 * value for value in share]
                line.append(sum(percent) / len(percent))
                has = "yes" if bias else "no"
                lines.append([f"{init}, {name}", has, mean_sd(percent, 1), mean_sd(error, 2)])
            axis.plot(list(SPREADS), line, marker="o", label=init)
        axis.set(title="with a bias" if bias else "without", xlabel="standard deviation of C")
    axes[0].set(ylabel="codes used (%)", ylim=(0, 105))
    axes[0].legend()
    print("\n" + markdown(["C", "bias", "used (%)", "MSE / variance"], lines))
    return figure


if __name__ == "__main__":
    build("codebook", write)
