"""A prior that fits the codes it is trained on, before its training."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from common.hub import local_folder, sha256
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.quantizers import Quantizer
from stage2_prior.kinds import prior_of, speech_prior_of
from stage2_prior.model import Prior, PriorConfig
from stage2_prior.speech_model import SpeechPriorConfig
from stage2_prior.train_config import TrainPriorConfig, TrainSpeechPriorConfig


def prior_config(
    config: TrainPriorConfig, manifest: dict[str, Any], quantizer: Quantizer
) -> PriorConfig:
    """That of a prior over grids of codes, all of one size."""
    rows, columns = manifest["grid"]
    return PriorConfig(
        **shared_keys(config, quantizer),
        length=rows * columns * quantizer.spec.levels,
        classes=len(manifest["classes"]) if config.conditional else 0,
    )


def shared_keys(
    config: TrainPriorConfig | TrainSpeechPriorConfig, quantizer: Quantizer
) -> dict[str, Any]:
    """What a prior's config says of the codes themselves and of the transformer, whatever the codes stand for."""
    spec = quantizer.spec
    return {
        "codebook_size": spec.alphabet,
        "code_dim": quantizer.config.code_dim,
        "sizes": spec.sizes if spec.levels > 1 else (),
        "levels_by": config.levels_by,
        "size": config.size,
        "style": config.style,
        "head": config.head,
        "dropout": config.dropout,
    }


def half_longer(codes: int, levels: int) -> int:
    """1.5 times as many codes, in whole positions, rounded up."""
    return -(-3 * codes // (2 * levels)) * levels


def speech_prior_config(
    config: TrainSpeechPriorConfig,
    manifest: dict[str, Any],
    rows: dict[str, Dataset],
    quantizer: Quantizer,
) -> SpeechPriorConfig:
    """That of a prior over sequences that end; `rows` are the codes and texts of each split.

    Raises ValueError for a condition that the data set does not have.
    """
    texts = [str(text).lower() for text in rows["train"]["text"]]
    known = {
        "label": len(manifest["classes"]),
        "speaker": len(manifest["speakers"]),
        "text": max(map(len, texts)),
    }
    parts = [] if config.condition == "none" else config.condition.split("+")
    for part in parts:
        if not known[part]:
            raise ValueError(
                f"condition={config.condition!r}, but the recordings of {config.codes} have no {part}: set "
                f"condition, or data.{part}_column and encode again"
            )
    longest, levels = max(map(len, rows["train"]["codes"])), quantizer.spec.levels
    spoken = texts + [str(text).lower() for text in rows["validation"]["text"]]
    with_text = config.condition == "text"
    return SpeechPriorConfig(
        **shared_keys(config, quantizer),
        length=longest,
        classes=known["label"] if "label" in parts else 0,
        condition=config.condition,
        speakers=known["speaker"] if "speaker" in parts else 0,
        characters="".join(sorted(set("".join(spoken)))) if with_text else "",
        text_length=max(map(len, spoken)) if with_text else 0,
        min_codes=config.min_codes,
        max_codes=half_longer(longest, levels) if config.max_codes is None else config.max_codes,
    )


def fitting_tokenizer(
    config: TrainPriorConfig | TrainSpeechPriorConfig, manifest: dict[str, Any]
) -> Path:
    """The folder of the tokenizer that made the codes. Raises ValueError where it is another."""
    made = manifest.get("modality", "images")
    if made != config.modality:
        raise ValueError(
            f"{config.codes} holds codes of {made}, but modality={config.modality}: set modality or codes"
        )
    folder = local_folder(config.tokenizer)
    mine, theirs = sha256(folder / "model.safetensors"), manifest["tokenizer_sha256"]
    if mine != theirs:
        raise ValueError(
            f"{config.codes} holds codes of tokenizer {theirs[:16]}, but {config.tokenizer} is {mine[:16]}: "
            "set tokenizer or codes, or encode again"
        )
    return folder


def untrained(
    config: TrainPriorConfig | TrainSpeechPriorConfig,
    manifest: dict[str, Any],
    rows: dict[str, Dataset],
    folder: Path,
) -> tuple[Prior, Tensor]:
    """A prior that fits the codes, a function of the seed, and the tokenizer's codebook."""
    if isinstance(config, TrainSpeechPriorConfig):
        speech = SpeechTokenizer.from_pretrained(folder)
        torch.manual_seed(config.seed)
        architecture = speech_prior_config(config, manifest, rows, speech.quantizer)
        return speech_prior_of(architecture), speech.codebook
    images = ImageTokenizer.from_pretrained(folder)
    torch.manual_seed(config.seed)
    fitted = prior_config(config, manifest, images.quantizer)
    return prior_of(fitted), images.codebook
