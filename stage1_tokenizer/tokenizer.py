"""What the tokenizers of all modalities have in common."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from common.files import sha256
from common.hub import HubModel, load_weights
from common.precision import float32_products
from stage1_tokenizer.quantizers import Quantizer


class Tokenizer(HubModel):
    """An autoencoder with a quantizer in the middle."""

    encoder: Any
    quantizer: Quantizer
    decoder: Any

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the networks' weights."""
        return next(self.parameters()).dtype

    @contextlib.contextmanager
    def exactly(self) -> Iterator[None]:
        """A context in which networks compute in float32, despite autocast or TF32, so that codes never depend on them.

        Raises ValueError for weights in half precision, which would give other codes.
        """
        if self.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"a tokenizer in {self.dtype} would give other codes than in float32: load it again, and leave it in float32"
            )
        with self.in_float32():
            yield

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Inside, autocast and TF32 are off: networks whose weights are float32 compute in float32."""
        with torch.autocast(self.device.type, enabled=False), float32_products():
            yield

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        """The effective codebook."""
        return self.quantizer.codebook


def encoding_sha256(folder: Path) -> str:
    """The SHA-256 of what codes depend on: all weights of a tokenizer's folder but its decoder's, by their names.

    Tokenizers that share it give the same codes, and take each other's.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(load_weights(folder / "model.safetensors").items()):
        if not name.startswith("decoder."):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def code_source(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The manifest key that identifies the tokenizer in `folder`, and its value: a hash of encoder and codebook.

    For a manifest of an earlier version it is the hash of all weights.
    """
    if "tokenizer_sha256" in manifest and "encoding_sha256" not in manifest:
        return {"tokenizer_sha256": sha256(folder / "model.safetensors")}
    return {"encoding_sha256": encoding_sha256(folder)}


def check_code_source(codes: Path, manifest: Mapping[str, Any], folder: Path) -> None:
    """Raises ValueError for a folder of codes, with this manifest, that the tokenizer in `folder` does not give."""
    ((key, own),) = code_source(folder, manifest).items()
    of_codes = manifest[key]
    if own != of_codes:
        raise ValueError(
            f"{codes} holds codes of tokenizer {of_codes[:16]}, but {folder} is {own[:16]}: set tokenizer or codes, or "
            "encode again"
        )
