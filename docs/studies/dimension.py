"""Is a small d needed, for all methods? One autoencoder of digits in which d alone changes."""

from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown, mean_sd
from torch import Tensor, nn

from stage1_tokenizer.codebook_usage import perplexity, used
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.quantizers import (
    CVQ,
    EMA,
    FC,
    LC,
    VQ,
    Affine,
    Continuous,
    Quantizer,
    SimVQ,
)

SEEDS = (0, 1)
DIMS = (2, 4, 8, 16, 32, 64, 128)
SIZE, CODES, PIXELS, HIDDEN, BATCH, STEPS, RATE = 512, 8, 64, 128, 128, 400, 3e-3
METHODS: dict[str, tuple[type[Quantizer], dict[str, object]]] = {
    "VQ": (VQ, {}),
    "VQ, initialised from data": (VQ, {"start": "data"}),
    "EMA": (EMA, {}),
    "EMA + reset": (EMA, {"reset": "state"}),
    "CVQ": (CVQ, {}),
    "Affine": (Affine, {}),
    "FC": (FC, {}),
    "LC": (LC, {}),
    "SimVQ": (SimVQ, {}),
}
CEILING = "no quantizer"


@cache
def digits(split: str) -> Float[Tensor, "n y"]:
    """The pixels of a split of scikit-learn's digits."""
    images = load_images(ImageDataConfig(), split, channels=1, size=8)
    views = [images.view(images.decode(row)) for row in images.rows]
    return torch.stack(views).flatten(1)


class Autoencoder(nn.Module):
    """Digits through one hidden layer to 8 latents, a quantizer, and back."""

    def __init__(self, quantizer: Quantizer, dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(PIXELS, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, CODES * dim),
            nn.Unflatten(1, (CODES, dim)),
        )
        self.quantizer = quantizer
        self.decoder = nn.Sequential(
            nn.Flatten(), nn.Linear(CODES * dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS)
        )


def train(quantizer: Quantizer, dim: int, steps: int) -> Autoencoder:
    """The autoencoder after training with this quantizer; torch's random state gives its weights and batches."""
    model, images = Autoencoder(quantizer, dim), digits("train")
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
    with torch.no_grad():
        quantizer.init_from(model.encoder(images[:BATCH]))
    for _ in range(steps):
        inputs = images[torch.randint(len(images), (BATCH,))]
        out = quantizer(model.encoder(inputs))
        loss = (model.decoder(out.latents) - inputs).square().mean() + out.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quantizer.accumulate(out.inputs, out.codes.flatten(0, 1))
        quantizer.after_step()
    return model.eval()


def trained(
    name: str, dim: int, seed: int, steps: int = STEPS, codebook_size: int = SIZE
) -> Autoencoder:
    """The autoencoder after training with this method at this d."""
    torch.manual_seed(seed)
    if name == CEILING:
        return train(Continuous(code_dim=dim), dim, steps)
    kind, options = METHODS[name]
    return train(kind(codebook_size=codebook_size, code_dim=dim, **options), dim, steps)


def error(model: Autoencoder) -> float:
    """The squared error of held-out digits by their variance."""
    held_out = digits("validation")
    with torch.no_grad():
        decoded = model.decoder(model.quantizer(model.encoder(held_out)).latents)
    return float((decoded - held_out).square().mean() / held_out.var(0).mean())


def run(name: str, dim: int, seed: int, steps: int = STEPS) -> list[float]:
    """Share used and perplexity over all digits' codes, and the held-out error."""
    model = trained(name, dim, seed, steps)
    with torch.no_grad():
        both = torch.cat([digits("train"), digits("validation")])
        codes = model.quantizer(model.encoder(both)).codes
    counts = codes.flatten().bincount(minlength=SIZE)
    return [used(counts), perplexity(counts), error(model)]


def cells(runs: list[list[list[float]]], measure: int) -> Iterator[str]:
    """A line's cells of one measure: mean and standard deviation over the seeds at each d."""
    scale, digits_shown = ((100, 0), (1, 0), (1, 3))[measure]
    for seeds in runs:
        yield mean_sd([scale * values[measure] for values in seeds], digits_shown)


def write() -> Figure:
    """Prints a table for each measure; the share used and the error against d."""
    results = {
        name: [[run(name, dim, seed) for seed in SEEDS] for dim in DIMS]
        for name in (*METHODS, CEILING)
    }
    for measure, title in enumerate(("used (%)", "perplexity", "MSE / variance")):
        names = results if measure == 2 else METHODS
        lines = [[name, *cells(results[name], measure)] for name in names]
        print(markdown([title, *(f"d = {dim}" for dim in DIMS)], lines) + "\n")
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for name, runs in results.items():
        style = {"color": "black", "ls": "--"} if name == CEILING else {"marker": "o", "ms": 3}
        means = torch.tensor(runs).mean(1)
        if name in METHODS:
            axes[0].plot(DIMS, 100 * means[:, 0], **style)
        axes[1].plot(DIMS, means[:, 2], label=name, **style)
    for axis, title in zip(axes, ("codes used (%)", "MSE / variance, held out"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set(xlabel="d", title=title, ylim=(0, None))
        axis.set_xticks(DIMS, list(map(str, DIMS)))
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


if __name__ == "__main__":
    build("dimension", write)
