"""Does a larger codebook help the prior, and does a head tied to the codebook? Digits, from SimVQ to samples."""

import copy
import math
from functools import cache
from typing import Literal, get_args

import torch
from dimension import Autoencoder, digits, error, trained
from jaxtyping import Float, Int
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown, mean_sd
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics

from pipelines.evaluation.fidelity import frechet_distance
from stage2_prior import Prior, PriorConfig
from stage2_prior.sampling import sample_codes

Head = Literal["learned", "codebook"]
SEEDS = (0, 1)
SIZES = (16, 64, 256, 1024, 4096)
DIM, BATCH, RATE, STEPS, EVERY, SAMPLES = 8, 64, 1e-3, 400, 50, 1000
COLUMNS = ("used (%)", "MSE / variance", "bits per digit", "FD(pixels)")
DIGITS = (0, 3, 1, 2)
"""After the point, of each column."""


@cache
def tokenizer(size: int, seed: int) -> Autoencoder:
    """SimVQ's autoencoder of the page on d, with K = size."""
    return trained("SimVQ", DIM, seed, codebook_size=size)


@torch.no_grad()
def codes_of(model: Autoencoder, split: str) -> Int[Tensor, "b n"]:
    """The codes of a split's digits."""
    return model.quantizer(model.encoder(digits(split))).codes


def prior(model: Autoencoder, head: Head, seed: int) -> tuple[Prior, float]:
    """A prior of 1 M over the tokenizer's codes, at its best on held-out digits; bits per digit there."""
    torch.manual_seed(seed)
    train, held_out = (codes_of(model, split) for split in ("train", "validation"))
    size, dim = model.quantizer.codebook.shape
    config = PriorConfig(
        codebook_size=size, code_dim=dim, length=train.shape[1], size="1m", head=head
    )
    net = Prior(config)
    if head == "codebook":
        net.vocabulary.set_codebook(model.quantizer.codebook.detach())
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    best, lowest = net, math.inf
    for step in range(1, STEPS + 1):
        chosen = torch.randint(len(train), (BATCH,))
        net(net.conditions(BATCH), train[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % EVERY == 0:
            with torch.no_grad():
                nats = float(net(net.conditions(len(held_out)), held_out))
            if nats < lowest:
                best, lowest = copy.deepcopy(net), nats
    return best, lowest * train.shape[1] / math.log(2)


def distance(samples: Float[Tensor, "n y"], real: Float[Tensor, "m y"]) -> float:
    """The Frechet distance of pixels."""
    return frechet_distance(
        *(fid_features_to_statistics(side.double()) for side in (samples, real))
    )


@torch.no_grad()
def sampled(model: Autoencoder, net: Prior) -> Float[Tensor, "n y"]:
    """Digits that the prior samples, one from each seed."""
    codes = sample_codes(net, net.conditions(SAMPLES), range(SAMPLES))
    return model.decoder(model.quantizer.lookup(codes)).clamp(-1, 1)


def run(size: int, head: Head, seed: int) -> list[float]:
    """The table's columns."""
    model = tokenizer(size, seed)
    net, bits = prior(model, head, seed)
    used = 100 * len(codes_of(model, "train").unique()) / size
    return [used, error(model), bits, distance(sampled(model, net), digits("train"))]


def write() -> Figure:
    """Prints the table; the error, the bits and the distance against K."""
    results = {
        (head, size): [run(size, head, seed) for seed in SEEDS]
        for head in get_args(Head)
        for size in SIZES
    }
    lines = [
        [head, f"{size:,}", *map(mean_sd, zip(*runs, strict=True), DIGITS)]
        for (head, size), runs in results.items()
    ]
    print(markdown(["head", "K", *COLUMNS], lines))
    print(f"\nheld-out digits: {distance(digits('validation'), digits('train')):.2f}")
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3), layout="constrained")
    means = {key: torch.tensor(runs).mean(0) for key, runs in results.items()}
    for axis, column in zip(axes, (1, 2, 3), strict=True):
        for head in get_args(Head):
            axis.plot(
                SIZES, [means[head, size][column] for size in SIZES], "o-", label=f"{head} head"
            )
        axis.set_xscale("log", base=2)
        axis.set(xlabel="K", title=COLUMNS[column], ylim=(0, None))
    axes[0].legend()
    return figure


if __name__ == "__main__":
    build("generation", write)
