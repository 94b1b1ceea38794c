"""How a tokenizer's training starts from saved weights, and which parts of it stay as they are."""

from pathlib import Path

from torch import nn

from common.checkpoints import list_checkpoints
from common.files import check_seal
from common.hub import load_weights
from common.init_from import source_folder, start_from
from stage1_tokenizer.config import TrainTokenizerConfig
from stage1_tokenizer.modality import ModalityTraining
from stage1_tokenizer.tokenizer import Tokenizer

DISCRIMINATOR = "discriminator"
"""The folder beside `model/` in which a run leaves its discriminator."""
TRAINING_KEYS = (
    *("weight", "beta", "start", "rescale", "rotation", "estimator", "gram_penalty", "w2_penalty"),
    *("decay", "reset", "reset_share"),
    *("codebook_weight", "contrastive_weight", "entropy_weight", "uniform_weight"),
)
"""Keys of quantizers that training alone reads."""
MAY_DIFFER = ("image_size", *(f"quantizer.{key}" for key in TRAINING_KEYS))
"""Keys of a saved tokenizer that may have other values where it is trained further."""


def start_weights(config: TrainTokenizerConfig, modality: ModalityTraining) -> None:
    """Gives a new run the weights that `init_from` names, and freezes what `freeze` names.

    A run that has checkpoints goes on from those. Raises ValueError for weights that do not fit.
    """
    if config.init_from is not None and not list_checkpoints(config.run_dir):
        folder = source_folder(config.init_from, "tokenizer")
        start_from(modality.tokenizer, folder, MAY_DIFFER)
        beside = folder.parent / DISCRIMINATOR
        if modality.discriminator is not None and beside.is_dir():
            start_discriminator(modality.discriminator, beside)
    for part in frozen_parts(config, modality.tokenizer):
        part.requires_grad_(False)


def start_discriminator(discriminator: nn.Module, folder: Path) -> None:
    """Gives the discriminator the saved weights. Raises ValueError where they are another's."""
    check_seal(folder)
    weights, own = load_weights(folder / "model.safetensors"), discriminator.state_dict()
    shapes = [{name: tensor.shape for name, tensor in each.items()} for each in (weights, own)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{folder} is a discriminator of another architecture: set the keys loss.discriminator* as they were "
            "there, or remove it"
        )
    discriminator.load_state_dict(weights)


def frozen_parts(config: TrainTokenizerConfig, tokenizer: Tokenizer) -> list[nn.Module]:
    """The modules that `freeze` names."""
    parts = {"encoder": tokenizer.encoder, "codebook": tokenizer.quantizer}
    return [parts[name] for name in config.freeze]


def set_training(config: TrainTokenizerConfig, tokenizer: Tokenizer) -> None:
    """Sets the training mode.

    Where codes are fixed the quantizer stays in eval mode, so that the decoder learns from the vectors that it
    decodes from codes, also with methods that mix vectors in training.
    """
    tokenizer.train()
    if {*config.freeze} == {"encoder", "codebook"}:
        tokenizer.quantizer.eval()
