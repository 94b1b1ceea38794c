"""Training C beside W: when does the codebook collapse? C's learning rate over W's, optimizer, C's initialisation."""

import torch
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown
from torch import Tensor, nn

from stage1_tokenizer.codebook_usage import perplexity, used
from stage1_tokenizer.quantizers import SimVQ

SEEDS = (0, 1)
SIZE, DIM, BATCH, STEPS = 256, 16, 256, 300
RATIOS = (0.0, 0.01, 0.1, 1.0, 10.0)
SPREADS = {"0.01": 0.01, "d^-1/2": DIM**-0.5, "1": 1.0}
RATES = {"SGD": 1.0, "Adam": 3e-3}
"""Learning rates of W and b; networks have Adam at 3e-3."""


class Toy:
    """Vectors of 64 numbers made from 6 by a fixed random network."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(6, 32, generator=generator) / 6**0.5
        self.second = torch.randn(32, 64, generator=generator) / 32**0.5

    def __call__(self, count: int) -> Float[Tensor, "n y"]:
        uniform = 2 * 3**0.5 * (torch.rand(count, 6) - 0.5)
        return 2 * torch.tanh(uniform @ self.first) @ self.second


def new_quantizer(spread: float) -> SimVQ:
    """SimVQ with the paper's initialisation, C scaled to this standard deviation; C may be trained."""
    quantizer = SimVQ(codebook_size=SIZE, code_dim=DIM, train_basis=True, rescale=False)
    with torch.no_grad():
        quantizer.basis.mul_(spread * DIM**0.5)
    return quantizer


def moved(after: Tensor, before: Tensor) -> float:
    """Norm of the change by the initial norm."""
    return float((after.detach() - before).norm() / before.norm())


def run(optimizer: str, spread: float, ratio: float, seed: int, steps: int = STEPS) -> list[float]:
    """Share used, perplexity, error by the variance, and the relative changes of C and W."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, DIM))
    decoder = nn.Sequential(nn.Linear(DIM, 64), nn.ReLU(), nn.Linear(64, 64))
    quantizer, toy = new_quantizer(spread), Toy()
    rate = RATES[optimizer]
    optimizer_class = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}[optimizer]
    codebook = optimizer_class(
        [
            {"params": [*quantizer.projection.parameters()], "lr": rate},
            {"params": [quantizer.basis], "lr": ratio * rate},
        ]
    )
    networks = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    basis, weight = quantizer.basis.detach().clone(), quantizer.projection.weight.detach().clone()
    for _ in range(steps):
        inputs = toy(BATCH)
        out = quantizer(encoder(inputs)[None])
        loss = (decoder(out.latents[0]) - inputs).square().mean() + out.loss
        networks.zero_grad()
        codebook.zero_grad()
        loss.backward()
        networks.step()
        codebook.step()
    with torch.no_grad():
        inputs = toy(10_000)
        codes = quantizer.encode(encoder(inputs))
        error = (decoder(quantizer.lookup(codes)) - inputs).square().mean() / inputs.var(0).mean()
    counts = codes.bincount(minlength=SIZE)
    changes = [moved(quantizer.basis, basis), moved(quantizer.projection.weight, weight)]
    return [used(counts), perplexity(counts), float(error), *changes]


def pair(values: tuple[float, ...], scale: float = 1.0, digits: int = 2) -> str:
    """The values of the seeds, side by side."""
    return ", ".join(f"{scale * value:.{digits}f}" for value in values)


def write() -> Figure:
    """Prints the table, both seeds in each cell; the share used against the ratio."""
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    lines = []
    for optimizer, axis in zip(RATES, axes, strict=True):
        for name, spread in SPREADS.items():
            line = []
            for ratio in RATIOS:
                runs = zip(*(run(optimizer, spread, ratio, seed) for seed in SEEDS), strict=True)
                share, spreads, error, basis, weight = runs
                cells = [pair(share, 100, 0), pair(spreads, 1, 0), pair(error, digits=3)]
                lines.append(
                    [f"{optimizer}, {name}", f"{ratio:g}", *cells, pair(basis), pair(weight)]
                )
                line.append(100 * sum(share) / len(share))
            axis.plot(list(map(str, RATIOS)), line, marker="o", label=name)
        axis.set(title=optimizer, xlabel="learning rate of C / of W")
    axes[0].set(ylabel="codes used (%)", ylim=(0, 105))
    axes[0].legend(title="C's initialisation", ncols=3, loc=(0.08, 0.25))
    columns = ["used (%)", "perplexity", "MSE / variance", "change of C", "change of W"]
    print(markdown(["optimizer, C's initialisation", "ratio", *columns], lines))
    return figure


if __name__ == "__main__":
    build("joint", write)
