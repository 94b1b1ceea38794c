"""Scores from a prior's own likelihoods of held-out codes: bits per item, and the accuracy of the likeliest label."""

import gzip
import math
from collections.abc import Iterator

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Int
from torch import Tensor

from common.codes import code_lengths
from stage2_prior.data import Batch, CodeDataset, held_out_batches
from stage2_prior.model import Prior
from stage2_prior.ngrams import baselines

BATCH = 64
"""Sequences at a time."""
MOST_LABELLED = 1000
"""Sequences that are asked for their label, which takes a forward for each label."""


def evaluate_prior(prior: Prior, train: Dataset, held_out: Dataset) -> dict[str, float]:
    """Bits per item of the prior, of n-grams counted from `train`, and of gzip; for labels the prior's accuracy.

    `label_accuracy` is the share of `labelled` items whose label y is the one with the largest p(codes | y).
    """
    dataset = CodeDataset(held_out, prior, 0.0, 0)
    nats = torch.cat([prior.nats(*batch) for batch in batches(dataset, prior)])
    config = prior.config
    per_item = float(code_lengths(held_out).mean()) + config.ends
    tables = baselines(train, held_out, config.level_sizes, config.ends)
    to_bits = per_item / math.log(2)
    metrics = {
        "items": len(held_out),
        "bits_per_item": float(nats.cpu().double().mean()) / math.log(2),
        "unigram_bits_per_item": tables["baseline/unigram_nats"] * to_bits,
        "bigram_bits_per_item": tables["baseline/bigram_nats"] * to_bits,
        "gzip_bits_per_item": gzip_bits(held_out, max(config.level_sizes)) / len(held_out),
    }
    if "label" in config.parts:
        chosen = range(0, len(held_out), -(-len(held_out) // MOST_LABELLED))
        part = held_out.select(chosen)
        right = likeliest_labels(prior, part) == torch.tensor(part["label"][:])
        metrics |= {"labelled": len(part), "label_accuracy": float(right.double().mean())}
    return metrics


def gzip_bits(items: Dataset, codebook_size: int) -> float:
    """Bits of all codes as one file by gzip, each code in as few whole bytes as hold any."""
    codes = np.concatenate([*items.with_format("numpy")["codes"]])
    smallest = codes.astype(np.min_scalar_type(codebook_size - 1))
    return 8.0 * len(gzip.compress(smallest.tobytes(), compresslevel=9))


def likeliest_labels(prior: Prior, items: Dataset) -> Int[Tensor, " n"]:
    """argmax_y p(codes | y) of each sequence, all else of its condition as it is."""
    dataset = CodeDataset(items, prior, 0.0, 0)
    place, size = list(prior.config.parts).index("label"), prior.config.classes
    first = prior.config.no_condition[place] - size

    def of_label(conditions: Int[Tensor, "b p"], label: int) -> Int[Tensor, "b p"]:
        changed = conditions.clone()
        changed[:, place] = first + label
        return changed

    likeliest = [
        torch.stack([prior.nats(of_label(conditions, y), codes) for y in range(size)]).argmin(0)
        for conditions, codes in batches(dataset, prior)
    ]
    return torch.cat(likeliest).cpu()


def batches(dataset: CodeDataset, prior: Prior) -> Iterator[Batch]:
    """All items in order, on the prior's device."""
    device = prior.condition_embedding.weight.device
    for conditions, codes in held_out_batches(dataset, batch_size=BATCH):
        yield conditions.to(device), codes.to(device)
