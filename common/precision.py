"""What float32 means while codes are computed, and where other precisions are slow."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

BACKENDS: tuple[Any, ...] = (
    *(torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn),  # type: ignore[attr-defined]
    *(torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn),  # type: ignore[attr-defined]
)
"""Where float32 products may be rounded to fewer bits (TF32, bfloat16); by default a GPU's convolutions are."""


def is_slow(precision: str, device: torch.device) -> bool:
    """Whether products in a training's precision take many times as long as in float32.

    They do on processors without instructions for bfloat16, which on x86 means before AVX-512.
    """
    if precision == "fp32" or device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Float32Products:
    """PyTorch's precision of float32 products, which all threads share.

    The first thread that enters `float32_products` sets it to full float32, the last that leaves restores it.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.allowed: list[str] = []

    def enter(self) -> None:
        """Forbids TF32 and bfloat16."""
        with self.lock:
            if not self.inside:
                self.allowed = [backend.fp32_precision for backend in BACKENDS]
                for backend in BACKENDS:
                    backend.fp32_precision = "ieee"
            self.inside += 1

    def leave(self) -> None:
        """Allows what was allowed, where no other thread is inside."""
        with self.lock:
            self.inside -= 1
            if not self.inside:
                for backend, precision in zip(BACKENDS, self.allowed, strict=True):
                    backend.fp32_precision = "none"  # as the setting for all says
                    if backend.fp32_precision != precision:  # unless it had its own
                        backend.fp32_precision = precision


PRODUCTS = Float32Products()


@contextmanager
def float32_products() -> Iterator[None]:
    """A context in which float32 products keep full precision, even if TF32 or bfloat16 is allowed outside.

    In a graph for torch.compile or for export it does nothing: there the precision is the one outside.
    """
    if torch.compiler.is_compiling():
        yield
        return
    PRODUCTS.enter()
    try:
        yield
    finally:
        PRODUCTS.leave()
