"""Why does SimVQ's codebook lose dimensions in training, and what does it cost?"""

from collections.abc import Callable

import torch
from dimension import RATE, digits, error, train
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown, mean_sd

from stage1_tokenizer.codebook_usage import effective_rank, perplexity, used
from stage1_tokenizer.quantizers import EMA, Continuous, Quantizer, SimVQ

SEEDS = (0, 1, 2)
SIZES = (4, 16, 64, 256, 1024)
DIM, STEPS = 8, 600
VECTORS, FIXED_STEPS = 1024, 1500

Make = Callable[[int], Quantizer]
METHODS: dict[str, Make] = {
    "SimVQ": lambda k: SimVQ(codebook_size=k, code_dim=DIM),
    "SimVQ, no commitment loss (beta 0)": lambda k: SimVQ(codebook_size=k, code_dim=DIM, beta=0.0),
    "SimVQ, weight 0.1": lambda k: SimVQ(codebook_size=k, code_dim=DIM, weight=0.1),
    "SimVQ, gram penalty 0.01": lambda k: SimVQ(codebook_size=k, code_dim=DIM, gram_penalty=0.01),
    "SimVQ, W2 penalty 1": lambda k: SimVQ(codebook_size=k, code_dim=DIM, w2_penalty=1.0),
    "EMA, reset": lambda k: EMA(codebook_size=k, code_dim=DIM, reset="state", decay=0.95),
    "no quantizer": lambda k: Continuous(code_dim=DIM),
}


def on_fixed_latents(size: int, seed: int) -> list[float]:
    """SimVQ alone on Gaussian latents that never change: ranks of the codebook, and its error."""
    torch.manual_seed(seed)
    quantizer = SimVQ(codebook_size=size, code_dim=DIM)
    quantizer.init_from(torch.randn(VECTORS, DIM))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=RATE)
    for _ in range(FIXED_STEPS):
        loss = quantizer(torch.randn(1, VECTORS, DIM)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    latents = torch.randn(1, 8 * VECTORS, DIM)
    out = quantizer.eval()(latents)
    counts = out.codes.flatten().bincount(minlength=size)
    lost = float((out.latents - latents).square().mean())
    return [effective_rank(quantizer.codebook.detach()), 100 * used(counts), lost]


def trained(make: Make, size: int, seed: int) -> list[float]:
    """An autoencoder of digits: ranks of codebook and latents, use, perplexity, held-out error."""
    torch.manual_seed(seed)
    model = train(make(size), DIM, STEPS)
    with torch.no_grad():
        latents = model.encoder(digits("train"))
        out = model.quantizer(latents)
    rank = effective_rank(latents.flatten(0, 1))
    if isinstance(model.quantizer, Continuous):
        return [float("nan"), rank, float("nan"), float("nan"), error(model)]
    counts = out.codes.flatten().bincount(minlength=size)
    codes = effective_rank(model.quantizer.codebook.detach())
    return [codes, rank, 100 * used(counts), perplexity(counts), error(model)]


MEASURES = {
    "effective rank of the codes": (0, 1),
    "effective rank of the latents": (1, 1),
    "used (%)": (2, 0),
    "MSE / variance": (4, 3),
}


def write() -> Figure:
    """Prints the tables; the ranks and the error against K."""
    alone = {size: [on_fixed_latents(size, seed) for seed in SEEDS] for size in SIZES}
    lines = [
        [
            f"{size:,}",
            *(mean_sd([run[i] for run in runs], digits) for i, digits in ((0, 1), (1, 0), (2, 3))),
        ]
        for size, runs in alone.items()
    ]
    print(
        markdown(["K, latents fixed", "effective rank", "used (%)", "MSE / variance"], lines) + "\n"
    )
    results = {
        name: [[trained(make, size, seed) for seed in SEEDS] for size in SIZES]
        for name, make in METHODS.items()
    }
    for title, (measure, shown) in MEASURES.items():
        lines = [
            [name, *(mean_sd([run[measure] for run in seeds], shown) for seeds in runs)]
            for name, runs in results.items()
            if runs[0][0][measure] == runs[0][0][measure]  # without a quantizer there are no codes
        ]
        print(markdown([title, *(f"K = {size:,}" for size in SIZES)], lines) + "\n")
    return plotted(alone, results)


def plotted(
    alone: dict[int, list[list[float]]], results: dict[str, list[list[list[float]]]]
) -> Figure:
    """Effective rank and error against K."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    ranks = torch.tensor([runs for runs in alone.values()]).mean(1)[:, 0]
    axes[0].plot(SIZES, ranks, marker="s", ls=":", color="grey", label="SimVQ, latents fixed")
    for name, runs in results.items():
        means = torch.tensor(runs).mean(1)
        axes[0].plot(
            SIZES, means[:, 1 if name == "no quantizer" else 0], marker="o", ms=3, label=name
        )
        axes[1].plot(SIZES, means[:, 4], marker="o", ms=3)
    titles = ("effective rank of the codes", "MSE / variance, held out")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_xscale("log", base=4)
        axis.set(xlabel="K", title=title, ylim=(0, None))
        axis.set_xticks(SIZES, list(map(str, SIZES)))
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


if __name__ == "__main__":
    build("rank", write)
