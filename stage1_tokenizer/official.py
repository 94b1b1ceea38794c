"""Checkpoints of the paper's authors (Lightning `state_dict`) as models of ours."""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from stage1_tokenizer.image_tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig

PARTS = ("encoder.", "decoder.", "quantize.")
RENAMES = (
    (r"\.mid_block\.", ".mid."),
    (r"\.(?:down|up)\.(\d+)\.block\.", r".levels.\1.blocks."),
    (r"\.down\.(\d+)\.downsample\.", r".levels.\1.resample."),
    (r"\.up\.(\d+)\.upsample\.conv1\.", r".levels.\1.resample.conv."),
    (r"\.nin_shortcut\.", ".skip."),
    (r"^quantize\.embedding\.weight$", "quantizer.basis"),
    (r"^quantize\.embedding_proj\.", "quantizer.projection."),
)


def import_official(checkpoint: Path, out: Path) -> Path:
    """Writes the tokenizer of an authors' image checkpoint to `out`, for `from_pretrained`.

    EMA weights are preferred to raw ones; discriminator and LPIPS are dropped; the architecture is read from
    the tensors' shapes. Raises ValueError, in words, for a file that holds more than tensors and plain
    containers (it is never unpickled freely) or that is no such checkpoint.
    """
    weights = averaged_weights(read_checkpoint(checkpoint))
    if "encoder.conv_in.weight" not in weights or "quantize.embedding.weight" not in weights:
        raise ValueError(
            f"{checkpoint} has no encoder.conv_in.weight and quantize.embedding.weight: "
            "it is not an image tokenizer of SimVQ's authors"
        )
    model = image_tokenizer(weights)
    model.save_pretrained(out)
    return out


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The `state_dict` of a Lightning checkpoint, read with `weights_only=True`."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file: import-official reads a checkpoint (.ckpt)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is refused: it holds more than tensors and plain containers, or is damaged ({reason}); "
            "re-save its state_dict alone with the authors' code"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"{path} has no state_dict: it is not a Lightning checkpoint")
    return content["state_dict"]


def averaged_weights(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Encoder, decoder and quantizer, each tensor from its EMA copy where there is one.

    The authors' EMA names are the parameters' with the dots removed, under `model_ema.`.
    """
    kept = {name: tensor for name, tensor in state_dict.items() if name.startswith(PARTS)}
    return {
        name: state_dict.get(f"model_ema.{name.replace('.', '')}", tensor).float()
        for name, tensor in kept.items()
    }


def image_tokenizer(weights: dict[str, Tensor]) -> ImageTokenizer:
    """The tokenizer of the authors' parameter names and shapes."""
    width, in_channels = weights["encoder.conv_in.weight"].shape[:2]
    levels = 1 + max(int(n) for n in _numbers(weights, r"encoder\.down\.(\d+)\."))
    blocks = 1 + max(int(n) for n in _numbers(weights, r"encoder\.down\.0\.block\.(\d+)\."))
    multipliers = tuple(
        weights[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] // width for i in range(levels)
    )
    codebook_size, code_dim = weights["quantize.embedding.weight"].shape
    factor = 2 ** (levels - 1)
    config = ImageTokenizerConfig(
        image_size=max(128 // factor, 1) * factor,  # the authors train at 128 x 128
        in_channels=in_channels,
        width=width,
        multipliers=multipliers,
        blocks_per_level=blocks,
        quantizer=SimVQConfig(
            codebook_size=codebook_size,
            code_dim=code_dim,
            bias="quantize.embedding_proj.bias" in weights,
        ),
    )
    model = ImageTokenizer(config)
    model.load_state_dict({rename(name): tensor for name, tensor in weights.items()})
    return model.eval()


def rename(name: str) -> str:
    """Our name of the authors' parameter `name`."""
    for pattern, ours in RENAMES:
        name = re.sub(pattern, ours, name)
    return name


def _numbers(weights: dict[str, Tensor], pattern: str) -> set[str]:
    return {match[1] for name in weights if (match := re.match(pattern, name))}
