"""Tensors as a safetensors file, apart from common/files.py, which the command line imports without torch."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes the tensors. Raises OSError where the disk does not take them."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(f"{path} can't be written ({error})") from None
