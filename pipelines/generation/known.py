"""Known codes that samples keep: what drawing begins with, and the order in which it goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stage1_tokenizer.quantizers import CodeSpec, check_codes
from stage2_prior import Prior
from stage2_prior.orders import Places, as_prompts


@dataclass(frozen=True)
class Beginning:
    """What codes are sampled from, on the prior's device."""

    conditions: Int[Tensor, "b p"]
    seeds: list[int]
    prompts: list[Int[Tensor, " _"]] | None
    """The known codes of each sample."""
    order: Places
    """The places of all codes, those of known ones first; None for raster order."""


def check_kinds(
    known: Sequence[Int[Tensor, "_ *levels"]] | None, masks: Sequence[Bool[Tensor, " _"]] | None
) -> None:
    """Raises ValueError for known codes that are no tensors of whole numbers, and for masks that are none of bool."""
    for one in known if known is not None else ():
        whole = isinstance(one, Tensor) and not (one.dtype == torch.bool or one.is_floating_point())
        if not whole or not one.ndim:
            raise ValueError("known must be tensors of whole numbers, the codes of each sample")
    for one in masks if masks is not None else ():
        if not isinstance(one, Tensor) or one.dtype != torch.bool or not one.ndim:
            raise ValueError("mask must be tensors of bool, True where codes are kept")


def beginning(
    spec: CodeSpec,
    prior: Prior,
    conditions: Int[Tensor, "b p"],
    seeds: list[int],
    known: Sequence[Int[Tensor, "_ *levels"]] | None,
    masks: Sequence[Bool[Tensor, " _"]] | None,
) -> Beginning:
    """Where drawing begins. Raises ValueError for known codes without a mask of the same size, and for masks that the prior can't complete."""
    device = prior.condition_embedding.weight.device
    if known is None and masks is None:
        return Beginning(conditions.to(device), seeds, None, None)
    sizes = [[] if given is None else [len(one) for one in given] for given in (known, masks)]
    if known is None or masks is None or sizes[0] != sizes[1] or len(known) != len(seeds):
        raise ValueError(
            f"known has {in_words(sizes[0])} positions and mask {in_words(sizes[1])}, for {len(sizes[0])} and "
            f"{len(sizes[1])} of {len(seeds)} samples: give both, with the same positions for each sample"
        )
    config = prior.config
    masks = [mask.cpu() for mask in masks]
    for one in known:
        if one.numel() != len(one) * config.levels:
            raise ValueError(
                f"known has codes of the shape {tuple(one.shape)}: this prior has {config.levels} for each position"
            )
    by_level = [one.reshape(len(one), config.levels).long().cpu() for one in known]
    for codes, mask in zip(by_level, masks, strict=True):
        check_codes(codes[mask] if spec.levels > 1 else codes[mask].flatten(), spec)
    length = max(sizes[0]) * config.levels
    prompts, order = as_prompts(by_level, masks, config.order, length)
    return Beginning(
        conditions.to(device), seeds, prompts, None if order is None else order.to(device)
    )


def in_words(sizes: list[int]) -> str:
    """The number of positions of each sample, once if it is the same for all."""
    return " and ".join(map(str, sizes if len(set(sizes)) > 1 else sizes[:1])) or "no"
