"""The architecture of a prior that fits the codes it is trained on."""

from typing import Any

from datasets import Dataset

from stage2_prior.model import PriorConfig
from stage2_prior.speech_model import SpeechPriorConfig
from stage2_prior.train_config import TrainPriorConfig, TrainSpeechPriorConfig


def prior_config(config: TrainPriorConfig, manifest: dict[str, Any], code_dim: int) -> PriorConfig:
    """That of a prior over grids of codes, all of one size."""
    rows, columns = manifest["grid"]
    return PriorConfig(
        codebook_size=manifest["codebook_size"],
        code_dim=code_dim,
        length=rows * columns,
        classes=len(manifest["classes"]) if config.conditional else 0,
        size=config.size,
        style=config.style,
        head=config.head,
        dropout=config.dropout,
    )


def speech_prior_config(
    config: TrainSpeechPriorConfig,
    manifest: dict[str, Any],
    rows: dict[str, Dataset],
    code_dim: int,
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
    longest = max(map(len, rows["train"]["codes"]))
    spoken = texts + [str(text).lower() for text in rows["validation"]["text"]]
    with_text = config.condition == "text"
    return SpeechPriorConfig(
        codebook_size=manifest["codebook_size"],
        code_dim=code_dim,
        length=longest,
        classes=known["label"] if "label" in parts else 0,
        size=config.size,
        style=config.style,
        head=config.head,
        dropout=config.dropout,
        condition=config.condition,
        speakers=known["speaker"] if "speaker" in parts else 0,
        characters="".join(sorted(set("".join(spoken)))) if with_text else "",
        text_length=max(map(len, spoken)) if with_text else 0,
        min_codes=config.min_codes,
        max_codes=-(-3 * longest // 2) if config.max_codes is None else config.max_codes,
    )
