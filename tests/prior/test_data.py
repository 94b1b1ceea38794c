"""The data set of codes: orders that go on anywhere, padding, withheld conditions."""

import torch
from datasets import Dataset
from helpers.priors import image_prior, speech_prior

from stage2_prior.data import BucketSampler, CodeDataset, held_out_batches, training_batches
from stage2_prior.model import IGNORED


def test_batches_hold_each_item_once_per_epoch_and_go_on_anywhere() -> None:
    lengths = torch.randint(1, 100, (64,), generator=torch.Generator().manual_seed(0))

    def keys(count: int, **options: int) -> list[tuple[int, int]]:
        options = {"start": 0, "rank": 0, "world": 1} | options
        stream = iter(BucketSampler(lengths, 4, seed=3, **options))
        return [next(stream) for _ in range(count)]

    whole = keys(192)
    assert [position for position, _ in whole] == list(range(192))
    for epoch in range(3):
        assert sorted(i for _, i in whole[64 * epoch : 64 * epoch + 64]) == list(range(64))
    assert keys(100, start=92) == whole[92:]
    assert keys(96, rank=1, world=2) == whole[1::2]
    spreads = [lengths[[i for _, i in whole[b : b + 4]]] for b in range(0, 192, 4)]
    assert sum(float(s.max() - s.min()) for s in spreads) / len(spreads) < 20


def test_items_of_unequal_lengths_are_padded_and_keep_their_conditions() -> None:
    prior = speech_prior("label+speaker")
    codes = [[i] * (1 + i % 5) for i in range(12)]
    columns = {"label": [i % 3 for i in range(12)], "speaker": [i % 2 for i in range(12)]}
    items = CodeDataset(Dataset.from_dict({**columns, "codes": codes}), prior, 0.0, 0)
    assert items.mean_codes == sum(map(len, codes)) / 12
    seen = []
    for conditions, batch in held_out_batches(items, batch_size=5):
        for condition, item in zip(conditions, batch, strict=True):
            seen.append((condition.tolist(), item[item != IGNORED].tolist()))
    entries = prior.conditions(12, labels=columns["label"], speakers=columns["speaker"])
    assert seen == list(zip(entries.tolist(), codes, strict=True))


def test_conditions_are_withheld_by_position_in_any_batch() -> None:
    prior = image_prior()
    columns = {"label": [i % 3 for i in range(40)], "codes": [[i] * 12 for i in range(40)]}
    items = CodeDataset(Dataset.from_dict(columns), prior, 0.3, 7)

    def first(count: int, batch_size: int) -> list[tuple[int, int]]:
        batches = training_batches(items, batch_size=batch_size)
        pairs = []
        while len(pairs) < count:
            conditions, codes = next(batches)
            pairs += zip(conditions[:, 0].tolist(), codes[:, 0].tolist(), strict=True)
        return pairs

    pairs = first(40, 8)
    assert pairs == first(40, 20) and sorted(code for _, code in pairs) == list(range(40))
    withheld = [label == 3 for label, _ in pairs]
    assert 4 < sum(withheld) < 20
    assert all(label in (3, code % 3) for label, code in pairs)
