"""New priors that fit the codes they are to be trained on, and saved ones."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from common.checkpoints import list_checkpoints
from common.codes import code_lengths
from common.config import load_config
from common.hub import local_folder
from common.init_from import source_folder, start_from
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.quantizers import Quantizer
from stage1_tokenizer.tokenizer import check_code_source
from stage2_prior.config import PriorConfig
from stage2_prior.depth import DepthPrior
from stage2_prior.embeddings import CodebookVocabulary
from stage2_prior.model import Prior
from stage2_prior.train_config import TrainPriorConfig

TOKENIZERS: dict[str, type[ImageTokenizer | SpeechTokenizer]] = {
    "images": ImageTokenizer,
    "speech": SpeechTokenizer,
}

MAY_DIFFER = ("length", "min_codes", "max_codes", "dropout")
"""Keys of a saved prior that may have other values where it is trained further."""


def prior_class(config: PriorConfig) -> type[Prior]:
    """The class of a prior with this config."""
    return DepthPrior if config.levels_by == "depth" else Prior


def load_prior(name_or_dir: str | Path) -> Prior:
    """A saved prior, in eval mode on the CPU."""
    folder = local_folder(name_or_dir)
    return prior_class(load_config(PriorConfig, folder / "config.json")).from_pretrained(folder)


def build_prior(
    config: TrainPriorConfig, manifest: dict[str, Any], items: dict[str, Dataset]
) -> Prior:
    """A new prior for config.codes, given their manifest and items by split; the seed decides its weights.

    A run without a checkpoint starts from `init_from`, if set. Raises ValueError for codes of another
    tokenizer, naming both hashes, for a condition that the codes do not have, and for weights that do not fit.
    """
    folder = local_folder(config.tokenizer)
    tokenizer = TOKENIZERS[manifest.get("modality", "images")].from_pretrained(folder)
    check_tokenizer(config, manifest, folder, tokenizer)
    architecture = prior_architecture(
        config,
        tokenizer.quantizer,
        **lengths(config, manifest, items, tokenizer.quantizer.spec.levels),
        **condition(config, manifest, items),
    )
    torch.manual_seed(config.seed)
    prior = prior_class(architecture)(architecture)
    if config.init_from is not None and not list_checkpoints(config.run_dir):
        start_from(prior, source_folder(config.init_from, "prior"), MAY_DIFFER)
    if isinstance(prior.vocabulary, CodebookVocabulary):
        prior.vocabulary.set_codebook(tokenizer.codebook)
    return prior


def prior_architecture(config: TrainPriorConfig, quantizer: Quantizer, **data: Any) -> PriorConfig:
    """The architecture of a prior for a quantizer's codes; `data` has its lengths and its condition."""
    spec = quantizer.spec
    return PriorConfig(
        codebook_size=spec.alphabet,
        code_dim=quantizer.config.code_dim,
        sizes=spec.sizes if spec.levels > 1 else (),
        levels_by=config.levels_by,
        order=config.order,
        size=config.size,
        style=config.style,
        head=config.head,
        dropout=config.dropout,
        **data,
    )


def check_tokenizer(
    config: TrainPriorConfig, manifest: dict[str, Any], folder: Path, tokenizer: Any
) -> None:
    """Raises ValueError for codes that the tokenizer does not give: of another one, or of another grid."""
    check_code_source(config.codes, manifest, folder)
    grid = list(getattr(tokenizer.config, "grid", []))
    if grid and manifest.get("grid", grid) != grid:
        raise ValueError(
            f"{config.codes} holds grids of {manifest['grid']} codes, those of {config.tokenizer} are {grid}: set "
            "tokenizer or codes, or encode again"
        )


def lengths(
    config: TrainPriorConfig, manifest: dict[str, Any], items: dict[str, Dataset], levels: int
) -> dict[str, Any]:
    """The keys of PriorConfig for lengths: one fixed length for grids of codes; all other sequences end.

    Raises ValueError for lengths set for grids, and for a sequence longer than max_codes where the prior learns vectors
    of places (gpt2, or another order than raster).
    """
    if "grid" in manifest:
        if (config.min_codes, config.max_codes) != (1, None):
            raise ValueError(
                f"{config.codes} holds grids of codes, which all have the same length: leave min_codes and "
                "max_codes out"
            )
        height, width = manifest["grid"]
        return {"length": height * width * levels}
    longest = {split: int(code_lengths(rows).max()) for split, rows in items.items()}
    half_more = -(-3 * longest["train"] // (2 * levels)) * levels
    most = max(half_more, *longest.values()) if config.max_codes is None else config.max_codes
    split = max(longest, key=longest.__getitem__)
    if longest[split] > most and (config.order != "raster" or config.style == "gpt2"):
        raise ValueError(
            f"max_codes={most}, but a {split} item of {config.codes} has {longest[split]} codes, and order="
            f"{config.order!r} with style={config.style!r} can't go beyond max_codes: set max_codes=null, or order=raster and "
            "style=llama"
        )
    return {"length": longest["train"], "min_codes": config.min_codes, "max_codes": most}


def condition(
    config: TrainPriorConfig, manifest: dict[str, Any], items: dict[str, Dataset]
) -> dict[str, Any]:
    """The keys of PriorConfig for the condition. Raises ValueError for a condition that the data set does not have."""
    classes, speakers = manifest["classes"], manifest.get("speakers", [])
    name = config.condition or ("label" if classes else "none")
    parts = [] if name == "none" else name.split("+")
    texts = [
        str(text).lower()
        for split in items.values()
        for text in (split["text"] if "text" in parts and "text" in split.column_names else [])
    ]
    values = {"label": classes, "speaker": speakers, "text": "".join(texts)}
    for part in parts:
        if not values[part]:
            raise ValueError(
                f"condition={name!r}, but the items of {config.codes} have no {part}: set condition, or "
                f"data.{part}_column and encode again"
            )
    return {
        "condition": name,
        "classes": len(classes) if "label" in parts else 0,
        "speakers": len(speakers) if "speaker" in parts else 0,
        "characters": "".join(sorted(set("".join(texts)))),
        "text_length": max(map(len, texts), default=0),
    }
