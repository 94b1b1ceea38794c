"""Is SimVQ a clustering method? Fixed vectors, no encoder: k-means, VQ, EMA and SimVQ side by side."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import bars, build, markdown, mean_sd
from sklearn.cluster import KMeans
from torch import Tensor

from stage1_tokenizer.codebook_usage import perplexity, used
from stage1_tokenizer.quantizers import EMA, VQ, Quantizer, SimVQ
from stage1_tokenizer.quantizers.search import nearest

SEEDS = (0, 1, 2)
COUNT, DIM, SIZE, CLUSTERS = 10_000, 16, 256, 120
STEPS, BATCH, RATE = 400, 512, 2e-2


def mixture() -> Float[Tensor, "n d"]:
    """Vectors of 120 clusters: centres from N(0, I), a spread of 0.2 around each."""
    centres = torch.randn(CLUSTERS, DIM)
    return centres[torch.randint(CLUSTERS, (COUNT,))] + 0.2 * torch.randn(COUNT, DIM)


def gaussian() -> Float[Tensor, "n d"]:
    """Vectors from N(0, I)."""
    return torch.randn(COUNT, DIM)


DATA = {"120 clusters": mixture, "Gaussian": gaussian}


def fit(
    quantizer: Quantizer,
    batches: Callable[[int], Float[Tensor, "1 n d"]],
    steps: int,
    rate: float = RATE,
) -> None:
    """Trains the quantizer alone with Adam on `batches(step)`; initialised from the first batch."""
    learned = [p for p in quantizer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=rate) if learned else None
    quantizer.init_from(batches(0))
    for step in range(steps):
        out = quantizer(batches(step))
        if optimizer is not None:
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
        quantizer.accumulate(out.inputs, out.codes.flatten())
        quantizer.after_step()


def measured(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> list[float]:
    """Squared error in units of the vectors' variance, share of the codes used, perplexity."""
    codes = nearest(vectors, codebook)
    error = (vectors - codebook[codes]).square().mean() / vectors.var(0, correction=0).mean()
    counts = codes.bincount(minlength=len(codebook))
    return [float(error), used(counts), perplexity(counts)]


def trained(kind: type[Quantizer], **options: object) -> Callable[[Tensor], Tensor]:
    """What gives the codebook of a quantizer after training on vectors."""

    def codebook(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
        quantizer = kind(codebook_size=SIZE, code_dim=DIM, **options)
        fit(quantizer, lambda step: vectors[torch.randint(COUNT, (1, BATCH))], STEPS)
        return quantizer.codebook.detach()

    return codebook


def k_means(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """scikit-learn's centres, from one k-means++ initialisation."""
    kmeans = KMeans(SIZE, n_init=1, random_state=int(torch.randint(2**31, ()))).fit(vectors.numpy())
    return torch.from_numpy(kmeans.cluster_centers_)


def ellipsoid(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """Samples of a Gaussian with the vectors' mean and covariance, its scale the best of ten: no step."""
    factor = torch.linalg.cholesky(vectors.T.cov())
    samples = torch.randn(SIZE, DIM) @ factor.T
    scaled = [vectors.mean(0) + scale / 10 * samples for scale in range(1, 11)]
    return min(scaled, key=lambda codebook: measured(vectors, codebook)[0])


METHODS = {
    "k-means": k_means,
    "EMA, state reset": trained(EMA, reset="state"),
    "VQ": trained(VQ),
    "SimVQ": trained(SimVQ),
    "SimVQ, no bias": trained(SimVQ, bias=False),
    "SimVQ, C trained too": trained(SimVQ, train_basis=True),
    "no training: samples of an ellipsoid": ellipsoid,
}


def result(name: str, data: str, seed: int) -> list[float]:
    """Error, share used and perplexity of one method for one seed of the data."""
    torch.manual_seed(seed)
    vectors = DATA[data]()
    return measured(vectors, METHODS[name](vectors))


def write() -> Figure:
    """Prints a table per data set; bars of the errors."""
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
    for data, axis in zip(DATA, axes, strict=True):
        lines, errors = [], {}
        for name in METHODS:
            error, share, spread = zip(*(result(name, data, seed) for seed in SEEDS), strict=True)
            percent = [100 * value for value in share]
            cells = [mean_sd(error), mean_sd(percent, 1), mean_sd(spread, 1)]
            lines.append([name, *cells])
            errors[name] = sum(error) / len(error)
        print(f"\n**{data}**\n")
        print(markdown(["", "normalised MSE", "used (%)", "perplexity"], lines))
        bars(axis, data, errors)
    return figure


if __name__ == "__main__":
    build("clustering", write)
