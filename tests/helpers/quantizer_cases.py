"""The quantizers that the contract is over, and a watch on the size of tensors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stage1_tokenizer.quantizers import (
    CVQ,
    EMA,
    FC,
    FSQ,
    HQA,
    IBQ,
    LC,
    LFQ,
    RQ,
    SCVAE,
    SQVAE,
    VQ,
    WAE,
    Affine,
    QINCo,
    Quantizer,
    ResidualSimVQ,
    SimVQ,
)

DIM = 6


@dataclass(frozen=True)
class Case:
    """A quantizer of 6-dimensional latents, and where it may differ from the rest."""

    kind: type[Quantizer]
    options: dict[str, Any]
    nearest: bool = True
    """Whether encode finds the nearest entry of `codebook`."""
    straight: bool = True
    """Whether the gradient that reaches the encoder is the decoder's, unchanged."""
    exact: bool = True
    """Whether codes tell all that the decoder sees in training."""
    learns: bool = True
    """Whether gradients train anything in it."""
    soft: bool = False
    """Whether latents in training are mixtures of codes."""

    def make(self) -> Quantizer:
        """A new quantizer."""
        return self.kind(**self.options)


CASES = {
    "simvq": Case(SimVQ, {"codebook_size": 40, "code_dim": DIM}),
    "vq": Case(VQ, {"codebook_size": 40, "code_dim": DIM}),
    "vq-uniform": Case(VQ, {"codebook_size": 40, "code_dim": DIM, "start": "uniform"}),
    "vq-data": Case(VQ, {"codebook_size": 40, "code_dim": DIM, "start": "data"}),
    "vq-rotation": Case(
        VQ, {"codebook_size": 40, "code_dim": DIM, "estimator": "rotation"}, straight=False
    ),
    "residual-simvq": Case(
        ResidualSimVQ, {"codebook_size": 16, "code_dim": DIM, "levels": 3}, nearest=False
    ),
    "rq": Case(
        RQ,
        {"codebook_size": 20, "code_dim": DIM, "levels": 3, "reset_share": 0.9},
        nearest=False,
        learns=False,
    ),
    "rq-apart": Case(
        RQ,
        {"codebook_size": 20, "code_dim": DIM, "levels": 3, "shared": False, "reset": "redraw"},
        nearest=False,
        learns=False,
    ),
    "qinco": Case(
        QINCo,
        {"codebook_size": 12, "code_dim": DIM, "levels": 3, "hidden": 8},
        nearest=False,
    ),
    "scvae": Case(
        SCVAE,
        {"atoms": 20, "code_dim": DIM, "kept": 3, "values": 9},
        nearest=False,
        straight=False,
        exact=False,
    ),
    "simvq-diagonal": Case(SimVQ, {"codebook_size": 40, "code_dim": DIM, "map": "diagonal"}),
    "simvq-scalar": Case(SimVQ, {"codebook_size": 40, "code_dim": DIM, "map": "scalar"}),
    "simvq-mlp": Case(SimVQ, {"codebook_size": 40, "code_dim": DIM, "map": "mlp"}),
    "simvq-none": Case(SimVQ, {"codebook_size": 40, "code_dim": DIM, "map": "none"}, learns=False),
    "simvq-w2": Case(SimVQ, {"codebook_size": 40, "code_dim": DIM, "w2_penalty": 0.5}),
    "ema": Case(EMA, {"codebook_size": 40, "code_dim": DIM}, learns=False),
    "ema-redraw": Case(
        EMA, {"codebook_size": 40, "code_dim": DIM, "reset": "redraw"}, learns=False
    ),
    "ema-state": Case(EMA, {"codebook_size": 40, "code_dim": DIM, "reset": "state"}, learns=False),
    "cvq": Case(CVQ, {"codebook_size": 40, "code_dim": DIM}),
    "cvq-random": Case(CVQ, {"codebook_size": 40, "code_dim": DIM, "anchor": "random"}),
    "cvq-probrandom": Case(CVQ, {"codebook_size": 40, "code_dim": DIM, "anchor": "probrandom"}),
    "cvq-contrastive": Case(CVQ, {"codebook_size": 40, "code_dim": DIM, "contrastive_weight": 1.0}),
    "affine": Case(Affine, {"codebook_size": 40, "code_dim": DIM, "replace_after": 1}),
    "affine-all": Case(
        Affine,
        {"codebook_size": 40, "code_dim": DIM, "nu": 0.5, "inner_steps": 3, "replace_after": 1},
        straight=False,
    ),
    "fc": Case(FC, {"codebook_size": 40, "code_dim": DIM}, straight=False),
    "lc": Case(LC, {"codebook_size": 40, "code_dim": DIM}),
    "fsq": Case(FSQ, {"levels": (5, 4, 3, 3, 3, 4)}, nearest=False, straight=False, learns=False),
    "lfq": Case(LFQ, {"codebook_size": 2**DIM}, nearest=False, learns=False),
    "ifsq": Case(
        FSQ,
        {"levels": (5, 4, 3, 3, 3, 4), "gain": 0.8},
        nearest=False,
        straight=False,
        learns=False,
    ),
    "bsq": Case(
        LFQ,
        {"codebook_size": 2**DIM, "spherical": True, "group_bits": 9},
        nearest=False,
        straight=False,
        learns=False,
    ),
    "sqvae": Case(SQVAE, {"codebook_size": 40, "code_dim": DIM}, straight=False, soft=True),
    "sqvae-vmf": Case(
        SQVAE, {"codebook_size": 40, "code_dim": DIM, "kind": "vmf"}, straight=False, soft=True
    ),
    "hqa": Case(HQA, {"codebook_size": 40, "code_dim": DIM}, straight=False, soft=True),
    "wae": Case(WAE, {"codebook_size": 40, "code_dim": DIM, "most_vectors": 64}),
    "ibq": Case(IBQ, {"codebook_size": 40, "code_dim": DIM}, nearest=False, straight=False),
}


def seeded(**options: object) -> SimVQ:
    torch.manual_seed(0)
    return SimVQ(**options)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def vectors(b: int = 3, n: int = 50, seed: int = 1, offset: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(b, n, DIM, generator=generator) + offset


def assert_same_gradients(actual: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    """The same value, and the same gradient of each input."""
    torch.testing.assert_close(actual, expected)
    gradients = (torch.autograd.grad(value, inputs) for value in (actual, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


class LargestTensor(TorchDispatchMode):
    """Watches how many elements the largest result of any operation has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return out
