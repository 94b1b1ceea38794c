"""SimVQ forward and backward against the paper's dense expression, another library's, and the bare product.

The floor of one step of N vectors, K codes of dimension d is the scores' product, 2 N K d operations. At
N = 4,096, d = 128 and K = 8,192 / 65,536 / 262,144 that is 8.6 / 68.7 / 275 GFLOP, to which C W adds
2 K d^2 (a 32nd). The codebook has to be read, 4 K d bytes (4 / 32 / 128 MiB); the scores, 4 N K bytes
(128 MiB / 1 GiB / 4 GiB), need never be in main memory. The gradient of W is one of N rows, 4 N d^2
operations with that of the latents, whatever K.

Two costs that kept the search from its floor are gone. PyTorch's own float32 product on a CPU is MKL's: for 10^9
scores of d = 128 it takes 2.2 s on one core of an AMD processor, oneDNN's 1.0 s. A maximum with its index takes
0.43 s, one without 0.05 s. A bfloat16 product that only proposes candidates takes 0.5 s, but the maxima of its
scores another 0.2 s, and the comparison that finds the candidates 0.7 s. (One thread, process time.)
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
import vector_quantize_pytorch as library
from jaxtyping import Float, Int
from torch import Tensor, nn

from benchmarks.side_by_side import DEVICE, Timing, alternate, report, weighed
from common.config import load_config
from stage1_tokenizer.quantizers import SimVQ

BETA = 0.25
PRODUCT_COLUMNS = 1024
"""Codes of one part of the bare product: as fast a size as any."""


@dataclass(frozen=True, kw_only=True)
class SearchSizes:
    """What is quantized, into how many codes, and how often."""

    vectors: int = 4096
    """N."""
    code_dim: int = 128
    """d."""
    codebook_sizes: tuple[int, ...] = (8192, 65_536, 262_144)
    """K, one row of the table each."""
    rounds: int = 5


class Step(NamedTuple):
    """What a forward and a backward give."""

    codes: Int[Tensor, " n"]
    loss: Float[Tensor, ""]
    latents_gradient: Float[Tensor, "n d"]
    weight_gradient: Float[Tensor, "d d"]


Quantize = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Latents, 1 x N x d, to quantized latents, codes and loss."""


class Dense(nn.Module):
    """The paper's expression: all N x K distances, and a gradient through all K rows of C W."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.empty(size, dim))
        self.projection = nn.Linear(dim, dim, bias=False)

    def forward(
        self, latents: Float[Tensor, "1 n d"]
    ) -> tuple[Float[Tensor, "1 n d"], Int[Tensor, "1 n"], Float[Tensor, ""]]:
        """Quantized latents, codes and the sum of codebook and commitment loss."""
        codebook, flat = self.projection(self.basis), latents[0]
        with torch.no_grad():
            squares = flat.square().sum(1, keepdim=True) + codebook.square().sum(1)
            codes = (squares - 2 * flat @ codebook.T).argmin(1)[None]
        chosen = F.embedding(codes, codebook)
        loss = BETA * F.mse_loss(chosen.detach(), latents) + F.mse_loss(chosen, latents.detach())
        return latents + (chosen - latents).detach(), codes, loss


def ours(size: int, dim: int) -> tuple[nn.Module, nn.Linear, Quantize]:
    """This project's quantizer, its map and its call, with the options that the others have."""
    quantizer = SimVQ(codebook_size=size, code_dim=dim, bias=False, beta=BETA)

    def quantize(latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = quantizer(latents)
        return out.latents, out.codes, out.loss

    return quantizer, quantizer.projection, quantize  # type: ignore[return-value]


def papers(size: int, dim: int) -> tuple[nn.Module, nn.Linear, Quantize]:
    """The dense expression."""
    quantizer = Dense(size, dim)
    return quantizer, quantizer.projection, quantizer


def others(size: int, dim: int) -> tuple[nn.Module, nn.Linear, Quantize]:
    """vector-quantize-pytorch's SimVQ, with the straight-through estimator as the others."""
    quantizer = library.SimVQ(dim=dim, codebook_size=size, rotation_trick=False)
    return quantizer, quantizer.code_transform, quantizer


WAYS = {"ours": ours, "paper": papers, "library": others}


def basis(size: int, dim: int) -> Float[Tensor, "k d"]:
    """C: the same for every way, made in place so that no copy of it counts as memory needed before."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    return torch.empty(size, dim, device=DEVICE).normal_(0, dim**-0.5, generator=generator)


def step(way: str, sizes: SearchSizes, size: int) -> Callable[[], Step]:
    """A forward and a backward of one way; the same latents, C and W for each."""
    dim = sizes.code_dim
    with torch.device("meta"):
        module, projection, quantize = WAYS[way](size, dim)
    module.to_empty(device=DEVICE)
    frozen = "frozen_codebook" if way == "library" else "basis"
    setattr(module, frozen, basis(size, dim))
    generator = torch.Generator(DEVICE).manual_seed(1)
    latents = torch.empty(1, sizes.vectors, dim, device=DEVICE).normal_(generator=generator)
    latents.requires_grad_()
    with torch.no_grad():
        nn.init.orthogonal_(projection.weight, dim**0.5, generator=generator)

    def run() -> Step:
        latents.grad = projection.weight.grad = None
        quantized, codes, loss = quantize(latents)
        total = loss + quantized.square().mean()  # stands for what a decoder makes of them
        total.backward()
        assert latents.grad is not None and projection.weight.grad is not None
        return Step(codes[0], total.detach(), latents.grad[0], projection.weight.grad)

    return run


def product(sizes: SearchSizes, size: int) -> Callable[[], None]:
    """z @ c.T in parts, in float32, into the same memory: what every way does at least."""
    latents = torch.randn(sizes.vectors, sizes.code_dim, device=DEVICE)
    codebook = basis(size, sizes.code_dim)
    columns = min(PRODUCT_COLUMNS, size)
    buffer = torch.empty(sizes.vectors * columns, device=DEVICE)

    def run() -> None:
        for part in codebook.split(columns):
            scores = buffer[: len(latents) * len(part)].view(len(latents), len(part))
            torch.mm(latents, part.T, out=scores)

    return run


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """What was measured of one codebook size."""

    codebook_size: int
    seconds: dict[str, Timing]
    memory: dict[str, float]
    """GiB that a step adds."""

    def times(self, way: str, reference: str) -> float:
        """The seconds of one way in those of another."""
        return self.seconds[way].median / self.seconds[reference].median


def compare(sizes: SearchSizes) -> list[SearchRow]:
    """Seconds and memory of every way, at every codebook size."""
    rows = []
    for size in sizes.codebook_sizes:
        ways: dict[str, Callable[[], object]] = {way: step(way, sizes, size) for way in WAYS}
        ways["product"] = product(sizes, size)
        seconds = alternate(ways, sizes.rounds, DEVICE)
        del ways
        memory = {way: weighed(step, way, sizes, size) for way in WAYS}
        rows.append(SearchRow(codebook_size=size, seconds=seconds, memory=memory))
    return rows


HEADER = [
    *("K", "ours, s", "the paper's, s", "library's, s", "product, s"),
    *("paper / ours", "library / ours", "ours / product"),
    *("ours, GiB", "the paper's, GiB", "library's, GiB", "paper / ours"),
]


def line(row: SearchRow) -> list[str]:
    """A row of the table."""
    seconds = [f"{row.seconds[way].median:.3g}" for way in (*WAYS, "product")]
    ratios = [("paper", "ours"), ("library", "ours"), ("ours", "product")]
    return [
        f"{row.codebook_size:,}",
        *seconds,
        *(f"{row.times(*pair):.2f}" for pair in ratios),
        *(f"{row.memory[way]:.2f}" for way in WAYS),
        f"{row.memory['paper'] / row.memory['ours']:.1f}",
    ]


if __name__ == "__main__":
    SIZES = load_config(SearchSizes, None, sys.argv[1:])
    results = compare(SIZES)
    report("search", HEADER, [line(row) for row in results], results)
