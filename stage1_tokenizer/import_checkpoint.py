"""Checkpoints of the paper's authors (Lightning `state_dict`) as models of ours."""

import re
from pathlib import Path

import torch
from torch import Tensor

from stage1_tokenizer.images.tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig
from stage1_tokenizer.speech.tokenizer import SpeechTokenizer, SpeechTokenizerConfig

IMAGE_PARTS = ("encoder.", "decoder.", "quantize.")
SPEECH_PARTS = ("encoder.", "backbone.", "head.out.", "quantize.")
SPEECH_RATE = 24_000
"""Samples per second of all the authors' speech models; no tensor tells it."""
QUANTIZER_RENAMES = (
    (r"^quantize\.embedding\.weight$", "quantizer.basis"),
    (r"^quantize\.embedding_proj\.", "quantizer.projection."),
)
IMAGE_RENAMES = (
    *QUANTIZER_RENAMES,
    (r"\.mid_block\.", ".mid."),
    (r"\.(?:down|up)\.(\d+)\.block\.", r".levels.\1.blocks."),
    (r"\.down\.(\d+)\.downsample\.", r".levels.\1.resample."),
    (r"\.up\.(\d+)\.upsample\.conv1\.", r".levels.\1.resample.conv."),
    (r"\.nin_shortcut\.", ".skip."),
)
SPEECH_RENAMES = (
    *QUANTIZER_RENAMES,
    (r"^(backbone|head)\.", r"decoder.\1."),
    (r"\.pos_net\.", ".pos_net.blocks."),
    (r"\.block\.1\.conv\.", ".res.conv1."),
    (r"\.block\.3\.conv\.", ".res.conv2."),
    (r"\.shortcut\.conv\.", ".res.skip."),
    (r"\.conv\.conv\.", ".conv."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)


def import_official(checkpoint: Path, out: Path, causal: bool = True) -> Path:
    """Writes the tokenizer of an authors' checkpoint, image or speech, to `out`.

    EMA weights are preferred to raw ones; what a tokenizer does not use is dropped (discriminators,
    LPIPS, the second decoder of the speech models). The architecture is read from the tensors' shapes,
    except whether the speech encoder's convolutions are causal: pass that as `causal`. Raises ValueError
    for another kind of checkpoint, and for a file with more than tensors and plain containers, because
    arbitrary objects are never unpickled.
    """
    state = read_checkpoint(checkpoint)
    model: ImageTokenizer | SpeechTokenizer
    try:
        if {"encoder.conv_in.weight", "quantize.embedding.weight"} <= state.keys():
            model = image_tokenizer(averaged_weights(state, IMAGE_PARTS))
        elif {"encoder.model.0.conv.conv.weight_v", "quantize.embedding.weight"} <= state.keys():
            model = speech_tokenizer(averaged_weights(state, SPEECH_PARTS), causal)
        else:
            raise ValueError(
                "it has no quantize.embedding.weight with encoder.conv_in.weight or encoder.model.0.conv.conv.weight_v"
            )
    except (IndexError, KeyError, RuntimeError, ValueError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split()[:40])
        raise ValueError(
            f"{checkpoint} is not a tokenizer of SimVQ's authors ({reason}): give another checkpoint"
        ) from None
    model.save_pretrained(out)
    return out


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The `state_dict` of a Lightning checkpoint, read with `weights_only=True`."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file: import-official reads a checkpoint (.ckpt)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises is anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(
            f"{path} is refused: it holds more than tensors and plain containers, or is damaged "
            f"({reason}); re-save its state_dict alone with the authors' code"
        ) from None
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{path} has no state_dict: it is not a Lightning checkpoint")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def averaged_weights(state_dict: dict[str, Tensor], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights whose names start with one of `parts`, each from its EMA copy where there is one.

    The authors' EMA names are the parameters' with the dots removed, under `model_ema.`.
    """
    kept = {name: tensor for name, tensor in state_dict.items() if name.startswith(parts)}
    return {
        name: state_dict.get(f"model_ema.{name.replace('.', '')}", tensor).float()
        for name, tensor in kept.items()
    }


def image_tokenizer(weights: dict[str, Tensor]) -> ImageTokenizer:
    """The tokenizer of the authors' parameter names and shapes."""
    width, in_channels = weights["encoder.conv_in.weight"].shape[:2]
    levels = 1 + max(int(n) for n in _indices(weights, r"encoder\.down\.(\d+)\."))
    blocks = 1 + max(int(n) for n in _indices(weights, r"encoder\.down\.0\.block\.(\d+)\."))
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
    model.load_state_dict({rename(name, IMAGE_RENAMES): tensor for name, tensor in weights.items()})
    return model.eval()


def speech_tokenizer(weights: dict[str, Tensor], causal: bool) -> SpeechTokenizer:
    """The tokenizer of the authors' parameter names and shapes."""
    # The encoder is a list: a convolution, then a residual unit, ELU and strided convolution per
    # level, then LSTM, ELU and a convolution.
    last = max(int(n) for n in _indices(weights, r"encoder\.model\.(\d+)\."))
    down = [f"encoder.model.{i}.conv.conv.weight_v" for i in range(3, last - 2, 3)]
    strides = [weights[name].shape[2] // 2 for name in down]
    hidden, decoder_width = weights["backbone.convnext.0.pwconv1.weight"].shape
    codebook_size, code_dim = weights["quantize.embedding.weight"].shape
    config = SpeechTokenizerConfig(
        sample_rate=SPEECH_RATE,
        ratios=tuple(reversed(strides)),
        width=weights["encoder.model.0.conv.conv.weight_v"].shape[0],
        lstm_layers=len(_indices(weights, r"encoder\.model\.\d+\.lstm\.weight_hh_l(\d+)")),
        causal=causal,
        decoder_width=decoder_width,
        decoder_hidden=hidden,
        decoder_layers=len(_indices(weights, r"backbone\.convnext\.(\d+)\.")),
        n_fft=weights["head.out.weight"].shape[0] - 2,
        quantizer=SimVQConfig(
            codebook_size=codebook_size,
            code_dim=code_dim,
            bias="quantize.embedding_proj.bias" in weights,
        ),
    )
    places = {0: "conv_in", last - 2: "lstm", last: "conv_out"}
    places |= {1 + 3 * i: f"levels.{i}" for i in range(len(strides))}
    places |= {3 + 3 * i: f"levels.{i}.down" for i in range(len(strides))}
    renamed = {}
    for name, tensor in weights.items():
        placed = re.sub(
            r"^encoder\.model\.(\d+)\.(lstm\.)?", lambda m: f"encoder.{places[int(m[1])]}.", name
        )
        renamed[rename(placed, SPEECH_RENAMES)] = tensor
    model = SpeechTokenizer(config)
    model.load_state_dict(renamed)
    return model.eval()


def rename(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """Our name of the authors' parameter `name`."""
    for pattern, ours in pairs:
        name = re.sub(pattern, ours, name)
    return name


def _indices(weights: dict[str, Tensor], pattern: str) -> set[str]:
    return {match[1] for name in weights if (match := re.match(pattern, name))}
