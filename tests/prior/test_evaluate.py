"""A prior that is asked itself: bits of held-out codes, and the label it finds likeliest."""

import gzip
import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from stage2_prior import DepthPrior, Prior, PriorConfig
from stage2_prior.evaluate import evaluate_prior, likeliest_labels
from stage2_prior.model import IGNORED


def tiny(depth: bool = False, **options: object) -> Prior:
    torch.manual_seed(0)
    keys = {"codebook_size": 8, "code_dim": 4, "length": 6, "classes": 3, "size": "1m"} | options
    config = PriorConfig(**keys, levels_by="depth" if depth else "flattened")  # type: ignore[arg-type]
    return (DepthPrior if depth else Prior)(config).eval()


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("max_codes", [None, 8])
def test_the_nats_of_sequences_sum_to_the_loss_of_their_batch(
    depth: bool, max_codes: int | None
) -> None:
    prior = tiny(depth, sizes=(8, 5), max_codes=max_codes)
    codes = torch.randint(0, 5, (4, 6))
    if max_codes:
        codes[1, 4:] = IGNORED
    conditions = prior.conditions(4, labels=[0, 1, 2, 0])
    nats = prior.nats(conditions, codes)
    loss = prior(conditions, codes) * prior.num_targets(codes)
    torch.testing.assert_close(nats.sum(), loss.detach(), rtol=1e-5, atol=1e-5)
    alone = prior.nats(conditions[2:3], codes[2:3])
    torch.testing.assert_close(nats[2:3], alone, rtol=1e-5, atol=1e-5)


def of_labels(labels: list[int], seed: int) -> Dataset:
    """Sequences whose codes are the label's own two, in random order."""
    random = np.random.default_rng(seed)
    codes = [(2 * label + random.integers(0, 2, 6)).tolist() for label in labels]
    return Dataset.from_dict({"codes": codes, "label": labels})


def test_a_prior_that_has_learned_labels_finds_them() -> None:
    prior, items = tiny().train(), of_labels([0, 1, 2] * 20, seed=0)
    conditions, codes = prior.conditions(60, labels=items["label"][:]), torch.tensor(items["codes"])
    optimizer = torch.optim.AdamW(prior.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        prior(conditions, codes).backward()
        optimizer.step()
    held_out = of_labels([2, 0, 1, 1], seed=1)
    assert likeliest_labels(prior.eval(), held_out).tolist() == [2, 0, 1, 1]
    metrics = evaluate_prior(prior, items, held_out)
    assert metrics["label_accuracy"] == 1 and metrics["labelled"] == metrics["items"] == 4
    # one bit a code is left: which of the label's two; bigrams have to find the label in the first
    assert metrics["bits_per_item"] == pytest.approx(6, rel=0.1)
    assert (
        metrics["bits_per_item"]
        < metrics["bigram_bits_per_item"]
        < metrics["unigram_bits_per_item"]
    )
    assert metrics["unigram_bits_per_item"] == pytest.approx(6 * math.log2(6), rel=0.05)
    raw = np.concatenate(held_out["codes"]).astype(np.uint8).tobytes()
    assert metrics["gzip_bits_per_item"] == 8 * len(gzip.compress(raw, 9)) / 4


def test_without_labels_there_is_no_accuracy() -> None:
    metrics = evaluate_prior(tiny(classes=0), of_labels([0, 1], 0), of_labels([0, 1], 1))
    assert "label_accuracy" not in metrics and metrics["bits_per_item"] > 0
