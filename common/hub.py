"""Models as folders: config.json and model.safetensors, on disk or on the Hub, loaded strictly."""

import socket
import sys
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from common.config import load_config, save_config
from common.files import check_seal, replaced_folder
from common.tensors import write_tensors


class HubModel(nn.Module):
    """A module that is built from one config dataclass and saved beside it.

    Strict where huggingface_hub's own mixin is silent: a missing or unexpected weight, a wrong shape and
    an unknown field of config.json are errors.
    """

    config_class: ClassVar[type[Any]]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(
        self, folder: str | Path, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Writes the folder whole or not at all; an older one of the same name is replaced.

        Give `state_dict` if this process holds only a part of the weights (FSDP).
        """
        with replaced_folder(Path(folder)) as partial:
            save_config(self.config, partial / "config.json")
            save_tensors(self.state_dict() if state_dict is None else state_dict, partial)

    @classmethod
    def from_pretrained(cls, name_or_dir: str | Path, revision: str | None = None) -> Any:
        """The saved model, in eval mode on the CPU; `name_or_dir` is a folder or a Hub repository."""
        folder = local_folder(name_or_dir, revision)
        check_seal(folder)
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"{folder} has no config.json: give the folder of a saved model, such as tokenizer/model of a run"
            )
        model = cls(load_config(cls.config_class, folder / "config.json"))
        saved = load_weights(folder / "model.safetensors")
        weights = {cls.current_name(name): tensor for name, tensor in saved.items()}
        try:
            result = model.load_state_dict(weights, strict=False)
        except RuntimeError as error:  # of other shapes
            reason = " ".join(str(error).split()[:40])
            raise ValueError(
                f"{folder / 'model.safetensors'} and its config.json do not fit each other: {reason}"
            ) from None
        if wrong := sorted([*result.missing_keys, *result.unexpected_keys]):
            raise ValueError(
                f"{folder / 'model.safetensors'} and its config.json do not fit each other: "
                f"{', '.join(wrong[:3])} ({len(wrong)} names in all) are in one and not in the other"
            )
        return model.eval()

    @classmethod
    def current_name(cls, name: str) -> str:
        """The name that a weight has now, by the name in its file, which an earlier version may have written."""
        return name


def save_tensors(state_dict: dict[str, Tensor], folder: Path) -> None:
    """Writes a module's weights into a folder."""
    tensors = {name: tensor.contiguous() for name, tensor in state_dict.items()}
    write_tensors(tensors, folder / "model.safetensors")


def save_weights(module: nn.Module, folder: Path) -> None:
    """Writes a folder with the weights of a module that needs no config, whole or not at all."""
    with replaced_folder(folder) as partial:
        save_tensors(module.state_dict(), partial)


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises ValueError, naming it, for a damaged one and for values that are not finite."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}): make it again") from None
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{path} holds values that are not finite, in {name}: train it again")
    return tensors


def local_folder(name_or_dir: str | Path, revision: str | None = None) -> Path:
    """The folder itself, or a downloaded copy of the Hub repository of that name."""
    folder = Path(name_or_dir).expanduser()
    if folder.is_dir():
        return folder
    if str(name_or_dir).count("/") != 1 or str(name_or_dir).startswith((".", "~")):
        raise ValueError(f"{name_or_dir} is neither a folder nor the name of a Hub repository")
    go_offline_if_unreachable()
    from huggingface_hub import snapshot_download  # takes a quarter of torch's time to import

    try:
        return Path(snapshot_download(str(name_or_dir), revision=revision))
    except OSError as error:
        reason = " ".join(str(error).split()[:30])
        raise ValueError(
            f"{name_or_dir} is no folder here, and can't be had from the Hub ({type(error).__name__}: {reason})"
        ) from None


def go_offline_if_unreachable() -> None:
    """Sets HF_HUB_OFFLINE where the Hub's address can't be resolved, so that its clients use their local copies.

    Otherwise they retry for half a minute. Behind a proxy this does nothing: it may resolve the address.
    """
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if getproxies():
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
