"""One step of SGD on two codes in the plane, small enough for paper: which codes move, and how far."""

import torch
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown
from torch import Tensor

from stage1_tokenizer.quantizers import VQ, Quantizer, SimVQ

STEP = 0.25
Z = (2.0, 0.0)
ORTHOGONAL = ((1.0, 0.0), (0.0, 1.0))
ACUTE = ((1.0, 0.0), (0.6, 0.8))
OBTUSE = ((1.0, 0.0), (-0.6, 0.8))


def vq(codes: Float[Tensor, "k d"]) -> VQ:
    """VQ with these codes. The weight d makes its mean over the d elements a sum."""
    quantizer = VQ(codebook_size=codes.shape[0], code_dim=codes.shape[1], weight=codes.shape[1])
    with torch.no_grad():
        quantizer.table.copy_(codes)
    return quantizer


def simvq(codes: Float[Tensor, "k d"], bias: bool = False, train_basis: bool = False) -> SimVQ:
    """SimVQ whose C has these vectors, with W = I and b = 0, so that it starts with the codes of `vq`."""
    count, dim = codes.shape
    quantizer = SimVQ(
        codebook_size=count, code_dim=dim, weight=dim, bias=bias, train_basis=train_basis
    )
    with torch.no_grad():
        quantizer.basis.copy_(codes)
        quantizer.projection.weight.copy_(torch.eye(dim))
        if bias:
            quantizer.projection.bias.zero_()
    return quantizer


def cases() -> dict[str, Quantizer]:
    """The lines of the page's table, before their step."""
    orthogonal, acute, obtuse = map(torch.tensor, (ORTHOGONAL, ACUTE, OBTUSE))
    return {
        "VQ": vq(orthogonal),
        "SimVQ, no bias": simvq(orthogonal),
        "SimVQ, bias": simvq(orthogonal, bias=True),
        "SimVQ, no bias, acute": simvq(acute),
        "SimVQ, no bias, obtuse": simvq(obtuse),
        "SimVQ, no bias, C trained too": simvq(orthogonal, train_basis=True),
    }


def step(
    quantizer: Quantizer, vector: Float[Tensor, " d"], rate: float
) -> tuple[int, Float[Tensor, "k d"], Float[Tensor, "k d"]]:
    """The code that the vector chose, and the codebook before and after one step of plain SGD."""
    learned = [p for p in quantizer.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=rate)
    before = quantizer.codebook.detach().clone()
    out = quantizer(vector[None, None])
    optimizer.zero_grad()
    out.losses["codebook"].backward()
    optimizer.step()
    return int(out.codes), before, quantizer.codebook.detach().clone()


def point(vector: Float[Tensor, " d"]) -> str:
    return f"({', '.join(f'{round(value, 4) + 0:g}' for value in vector.tolist())})"


def write() -> Figure:
    """Prints the table; one panel per case, arrows from before to after."""
    figure, axes = pyplot.subplots(2, 3, figsize=(8, 3.6), layout="constrained", sharex=True)
    lines = []
    for (name, quantizer), axis in zip(cases().items(), axes.flat, strict=True):
        chosen, before, after = step(quantizer, torch.tensor(Z), STEP)
        moves = [f"{point(a)} → {point(b)}" for a, b in zip(before, after, strict=True)]
        lines.append([name, f"e{chosen + 1}", *moves])
        axis.plot(*Z, "k*", markersize=10)
        for colour, a, b in zip(("C0", "C1"), before.tolist(), after.tolist(), strict=True):
            axis.annotate("", b, a, arrowprops={"arrowstyle": "->", "color": colour})
            axis.plot(*a, "o", color=colour)
            axis.plot(*b, "o", color=colour, fillstyle="none", markersize=9)
        axis.set(title=name, xlim=(-1.2, 2.6), ylim=(-0.5, 1.5), aspect="equal")
        axis.title.set_size("medium")
    print(markdown(["", "chosen", "e1", "e2"], lines))
    return figure


if __name__ == "__main__":
    build("toy", write)
