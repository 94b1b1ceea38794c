"""The prior for speech and its sampling: padded batches, ends, lengths, seeds, conditions, prompts."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.priors import drawn_anew

from stage2_prior import SpeechPrior, SpeechPriorConfig
from stage2_prior.speech_rows import BucketSampler
from stage2_prior.speech_sampling import WINDOW, sample_until_end

K, LONGEST = 20, 12
PARTS: dict[str, Any] = {
    "none": {},
    "label": {"classes": 3},
    "speaker": {"speakers": 2},
    "label+speaker": {"classes": 3, "speakers": 2},
    "text": {"characters": " ehnort", "text_length": 5},
}
GIVEN: dict[str, Any] = {
    "none": {},
    "label": {"labels": [0, 2, 1]},
    "speaker": {"speakers": [1, 0, 1]},
    "label+speaker": {"labels": [0, 2, 1], "speakers": [1, 0, 1]},
    "text": {"texts": ["three", "One", ""]},
}
"""Conditions of three samples."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On parts as small as these a second thread makes the first wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(condition: str = "label+speaker", **options: Any) -> SpeechPrior:
    """A random prior, far enough from the near-uniform start that its choices are no ties."""
    torch.manual_seed(0)
    config = SpeechPriorConfig(
        codebook_size=K,
        code_dim=4,
        length=LONGEST,
        size="1m",
        condition=condition,  # type: ignore[arg-type]
        max_codes=18,
        **PARTS[condition],
        **options,
    )
    return drawn_anew(SpeechPrior(config))


def with_end(prior: SpeechPrior, logit: float) -> SpeechPrior:
    """The prior with the same logit for the end everywhere, the rest as it was."""
    with torch.no_grad():
        prior.tables.end.weight.zero_()
        prior.tables.end.bias.fill_(logit)
    return prior


@pytest.mark.parametrize("style", ["llama", "gpt2"])
@pytest.mark.parametrize("condition", list(PARTS))
def test_the_loss_of_a_padded_batch_is_the_mean_over_its_items(condition: str, style: str) -> None:
    prior = tiny(condition, style=style)
    conditions = prior.conditions(3, **GIVEN[condition])
    items = [torch.randint(0, K, (size,)) for size in (5, 12, 1)]
    codes = torch.stack([F.pad(item, (0, 12 - len(item)), value=-1) for item in items])
    sums = [
        prior(conditions[i : i + 1], item[None]) * (len(item) + 1) for i, item in enumerate(items)
    ]
    torch.testing.assert_close(prior(conditions, codes), torch.stack(sums).sum() / (18 + 3))


def test_the_loss_is_the_cross_entropy_of_codes_and_end() -> None:
    prior = tiny("none")
    codes = torch.randint(0, K, (1, 6))
    logits = prior.tables.logits(prior.hidden(prior.conditions(1), codes))[0]
    assert logits.shape == (7, K + 1)
    expected = F.cross_entropy(logits, torch.cat([codes[0], torch.tensor([K])]))
    torch.testing.assert_close(prior(prior.conditions(1), codes), expected)


@pytest.mark.parametrize("style", ["llama", "gpt2"])
def test_samples_may_be_shorter_than_what_is_learned(style: str) -> None:
    config = dataclasses.replace(tiny("none", style=style).config, max_codes=4)
    prior = SpeechPrior(config).eval()
    assert prior(prior.conditions(2), torch.randint(0, K, (2, LONGEST))).isfinite()
    drawn = sample_until_end(prior, prior.conditions(9), range(9), min_codes=4)
    assert {len(row) for row in drawn} == {4}


def test_an_end_stops_its_sample_alone() -> None:
    prior = tiny("none")
    drawn = sample_until_end(prior, prior.conditions(40), range(40))
    lengths = {len(row) for row in drawn}
    assert len(lengths) > 3 and max(lengths) <= 18
    assert all(0 <= int(row.min()) <= int(row.max()) < K for row in drawn)


def test_minimum_and_maximum_length_hold() -> None:
    torch.manual_seed(0)
    always = with_end(tiny("none", head="codebook", min_codes=4), 100.0)
    never = with_end(tiny("none", head="codebook", min_codes=4), -100.0)
    conditions = always.conditions(5)

    def lengths(prior: SpeechPrior, **options: int) -> set[int]:
        return {len(row) for row in sample_until_end(prior, conditions, range(5), **options)}

    assert lengths(always) == {4} and lengths(never) == {18}
    assert lengths(always, min_codes=7) == {7} and lengths(never, max_codes=9) == {9}
    for wrong in ({"min_codes": 0}, {"min_codes": 9, "max_codes": 8}, {"max_codes": 19}):
        with pytest.raises(ValueError, match="max_codes"):
            sample_until_end(never, conditions, range(5), **wrong)


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance": 2.0, "top_k": 5}, {"repetitions": 0, "top_p": 0.5}, {"max_codes": 12}],
)
@pytest.mark.parametrize("condition", ["label+speaker", "text"])
def test_a_seed_gives_the_same_codes_in_any_batch(condition: str, options: dict) -> None:
    prior = tiny(condition)
    conditions = prior.conditions(3, **GIVEN[condition])
    together = sample_until_end(prior, conditions, [7, 8, 9], **options)
    for i, seed in enumerate((7, 8, 9)):
        (alone,) = sample_until_end(prior, conditions[i : i + 1], [seed], **options)
        assert torch.equal(together[i], alone)


def test_sampling_with_cache_equals_the_whole_sequence_anew() -> None:
    prior = tiny("text")
    conditions = prior.conditions(3, **GIVEN["text"])
    drawn = sample_until_end(prior, conditions, [0, 1, 2], temperature=0.0, guidance=2.0)
    none = torch.tensor([prior.config.no_condition])
    for i, codes in enumerate(drawn):
        c, u = (
            prior.tables.logits(prior.hidden(start, codes[None]))[0]
            for start in (conditions[i : i + 1], none)
        )
        logits = u + 2.0 * (c - u)
        logits[0, K] = -torch.inf
        likeliest = logits.argmax(1)
        assert torch.equal(likeliest[:-1], codes)
        assert likeliest[-1] == K or len(codes) == 18


def test_repetitions_are_drawn_again_from_the_whole_distribution() -> None:
    prior = with_end(tiny("none", head="codebook"), -100.0)
    with torch.no_grad():
        prior.tables.output_bias[5] = 4.0
    conditions = prior.conditions(20)

    def most(repetitions: int | None) -> int:
        drawn = sample_until_end(
            prior, conditions, range(20), top_k=1, repetitions=repetitions, max_codes=WINDOW
        )
        return sum(int(row.bincount().max()) for row in drawn)

    assert most(None) == 20 * WINDOW > most(0)


def test_a_prompt_begins_its_sample_whatever_stands_beside_it() -> None:
    prior = tiny("label")
    conditions = prior.conditions(2, labels=[0, 1])
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6, 7, 8])]
    together = sample_until_end(prior, conditions, [5, 6], prompts=prompts)
    for i, prompt in enumerate(prompts):
        assert torch.equal(together[i][: len(prompt)], prompt)
        one = conditions[i : i + 1]
        (alone,) = sample_until_end(prior, one, [5 + i], prompts=[prompt])
        assert torch.equal(together[i], alone)
    with pytest.raises(ValueError, match="18 codes leaves no room"):
        sample_until_end(prior, conditions[:1], [0], prompts=[torch.zeros(18, dtype=torch.int64)])


@pytest.mark.parametrize(
    ("condition", "given", "words"),
    [
        ("label", {"labels": [3]}, "label 3: this prior has 3 labels"),
        ("label+speaker", {"speakers": [-1]}, "speaker -1: this prior has 2 speakers"),
        ("label", {"speakers": [0]}, "this prior's condition is 'label'"),
        ("text", {"texts": ["two"]}, "has the character 'w'"),
        ("text", {"texts": ["three threes"]}, "has the character 's'"),
        ("text", {"texts": ["three three"]}, "trained on up to 5"),
        ("label", {"labels": [0, 1]}, "2 labels for 1 samples"),
    ],
)
def test_what_a_prior_does_not_know_is_told_in_words(
    condition: str, given: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        tiny(condition).conditions(1, **given)
    assert "\n" not in str(caught.value)


def test_each_part_of_a_condition_has_a_table_with_a_row_for_none() -> None:
    prior = tiny("label+speaker")
    assert prior.condition_embedding.num_embeddings == (3 + 1) + (2 + 1)
    assert prior.conditions(1).tolist() == [[3, 6]]
    assert prior.conditions(1, labels=[2], speakers=[1]).tolist() == [[2, 5]]
    assert tiny("text").conditions(2, texts=["ten", "THREE"]).tolist() == [
        [7, 7, 6, 1, 3],
        [6, 2, 5, 1, 1],
    ]


def test_batches_hold_each_row_once_per_epoch_and_go_on_anywhere() -> None:
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


def test_a_start_is_about_as_good_as_guessing() -> None:
    torch.manual_seed(0)
    prior = SpeechPrior(tiny("none").config).eval()
    loss = prior(prior.conditions(2), torch.randint(0, K, (2, 9)))
    assert float(loss.detach()) == pytest.approx(math.log(K + 1), abs=0.2)
