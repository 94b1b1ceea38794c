"""Sampling: transformers' own `generate`, seeds, guidance, truncations, ends, lengths, prompts, repetitions."""

from typing import Any

import jaxtyping
import pytest
import torch
from helpers.priors import (
    CLASSES,
    GIVEN,
    LENGTH,
    SPEECH_K,
    K,
    image_prior,
    sampled,
    speech_prior,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, SuppressTokensLogitsProcessor
from transformers.generation import LogitsProcessorList

import stage2_prior.logits
from stage2_prior import Prior
from stage2_prior.logits import guidance_at, sample_from_logits
from stage2_prior.sampling import sample_codes, uniforms
from stage2_prior.sampling_options import WINDOW, SamplingOptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 2.0},
        {"top_p": 0.0},
        {"top_k": -1},
        {"guidance": float("nan")},
        {"guidance": "2"},
        {"power": -1.0},
        {"temperature": None},
        {"top_k": 2.5},
        {"max_codes": 8.0},
        {"repetitions": -1},
    ],
)
def test_options_have_bounds(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types, as users have it
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        SamplingOptions(**wrong)


def as_stock_model(prior: Prior) -> LlamaForCausalLM:
    """The same weights in transformers' own class: conditions become tokens K, K + 1, ..."""
    config = prior.body.config.to_dict() | {
        "vocab_size": K + CLASSES + 1,
        "max_position_embeddings": 64,
    }
    stock = LlamaForCausalLM(type(prior.body.config)(**config)).eval()
    missing, unexpected = stock.model.load_state_dict(prior.body.state_dict(), strict=False)
    assert missing == ["embed_tokens.weight"] and not unexpected
    with torch.no_grad():
        stock.model.embed_tokens.weight[:K] = prior.vocabulary.embedding.weight
        stock.model.embed_tokens.weight[K:] = prior.condition_embedding.weight
        stock.lm_head.weight[:K] = prior.vocabulary.output.weight
        stock.lm_head.weight[K:] = 0
    return stock


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_greedy_sampling_equals_generate(guidance: float) -> None:
    prior = image_prior()
    labels = torch.tensor([0, 2, 1])
    options = SamplingOptions(guidance=guidance, temperature=0.0)
    ours = sample_codes(prior, labels[:, None], [0, 1, 2], options)
    no_conditions = SuppressTokensLogitsProcessor(list(range(K, K + CLASSES + 1)))
    theirs = as_stock_model(prior).generate(
        (K + labels)[:, None],
        attention_mask=torch.ones(3, 1, dtype=torch.long),
        max_new_tokens=LENGTH,
        do_sample=False,
        guidance_scale=guidance,
        negative_prompt_ids=torch.full((3, 1), K + CLASSES),
        logits_processor=LogitsProcessorList([no_conditions]),
        pad_token_id=K + CLASSES,
    )
    assert torch.equal(ours, theirs[:, 1:])


@pytest.mark.parametrize("style", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("head", ["learned", "codebook"])
def test_sampling_with_cache_equals_the_whole_sequence_anew(style: str, head: str) -> None:
    prior = image_prior(style=style, head=head)
    conditions, random = torch.tensor([[1], [3]]), uniforms([5, 6], LENGTH)
    codes = sample_codes(prior, conditions, [5, 6])
    logits = prior.vocabulary.logits(prior.hidden(conditions, codes[:, :-1]))
    slow = [sample_from_logits(logits[:, i], random[:, i, 0], 1.0, 0, 1.0) for i in range(LENGTH)]
    assert torch.equal(codes, torch.stack(slow, 1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 5},
        {"top_p": 0.8},
        {"guidance": 3.0, "temperature": 0.7, "schedule": "power-cosine"},
    ],
)
def test_a_seed_gives_the_same_codes_in_any_batch(options: dict[str, Any]) -> None:
    prior = image_prior()
    conditions, seeds = torch.tensor([[0], [1], [2], [1]]), [7, 8, 9, 10]
    together = sample_codes(prior, conditions, seeds, SamplingOptions(**options))
    for i, seed in enumerate(seeds):
        alone = sample_codes(prior, conditions[i : i + 1], [seed], SamplingOptions(**options))
        assert torch.equal(together[i : i + 1], alone)
    assert not torch.equal(together[1], together[3])


def test_choices_follow_the_distribution_and_its_truncations() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log().repeat(4000, 1)
    random = torch.linspace(0, 1, 4001)[:-1]

    def frequencies(top_k: int = 0, top_p: float = 1.0, temperature: float = 1.0) -> list[float]:
        chosen = sample_from_logits(logits, random, temperature, top_k, top_p)
        return (chosen.bincount(minlength=4) / 4000).tolist()

    assert frequencies() == pytest.approx([0.5, 0.2, 0.2, 0.1], abs=1e-3)
    assert frequencies(top_k=1) == [1, 0, 0, 0]
    assert frequencies(top_p=0.6) == pytest.approx([5 / 7, 2 / 7, 0, 0], abs=1e-3)
    squares = [0.25, 0.04, 0.04, 0.01]
    assert frequencies(temperature=0.5) == pytest.approx(
        [s / sum(squares) for s in squares], abs=1e-3
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 40))
def test_a_choice_never_has_probability_zero(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, k, generator=generator) * 5
    logits[:, 0] = -torch.inf
    random = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999999, 1 - 2**-24])
    chosen = sample_from_logits(logits, random, 1.0, 0, 1.0)
    assert (logits.gather(1, chosen[:, None]) > -torch.inf).all()


def test_the_coldest_temperatures_take_the_likeliest() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0, -torch.inf]])
    for temperature in (0.0, 1e-39, 1e-31, 1e-29, 1e-3):
        assert sample_from_logits(logits, torch.tensor([0.99]), temperature, 0, 1.0) == 1


def test_choices_are_the_same_however_many_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, random = torch.randn(64, 300) * 3, torch.rand(64)
    cumulative = logits.softmax(1, dtype=torch.float64).cumsum(1)
    target = random.double()[:, None] * cumulative[:, -1:]
    expected = torch.searchsorted(cumulative, target, right=True)[:, 0]
    for height in (1, 7, 64):
        monkeypatch.setattr(stage2_prior.logits, "PROBABILITIES_AT_ONCE", height * 300)
        assert torch.equal(sample_from_logits(logits, random, 1.0, 0, 1.0), expected)


def test_guidance_schedules_end_at_the_full_scale() -> None:
    def scales(schedule: str) -> list[float]:
        return [guidance_at(i, 5, 3.0, schedule, 1.0) for i in range(5)]  # type: ignore[arg-type]

    assert scales("constant") == [3.0] * 5
    assert scales("linear") == pytest.approx([1, 1.5, 2, 2.5, 3])
    assert scales("power-cosine") == pytest.approx([1, 1.2929, 2, 2.7071, 3], abs=1e-4)


def with_end(prior: Prior, logit: float) -> Prior:
    """The prior with the same logit for the end everywhere, the rest as it was."""
    with torch.no_grad():
        prior.vocabulary.end.weight.zero_()
        prior.vocabulary.end.bias.fill_(logit)
    return prior


def test_an_end_stops_its_sample_alone() -> None:
    prior = speech_prior("none")
    samples = sampled(prior, prior.conditions(40), range(40))
    lengths = {len(codes) for codes in samples}
    assert len(lengths) > 3 and max(lengths) <= 18
    assert all(0 <= int(codes.min()) <= int(codes.max()) < SPEECH_K for codes in samples)


def test_minimum_and_maximum_length_hold() -> None:
    torch.manual_seed(0)
    always = with_end(speech_prior("none", head="codebook", min_codes=4), 100.0)
    never = with_end(speech_prior("none", head="codebook", min_codes=4), -100.0)
    conditions = always.conditions(5)

    def lengths(prior: Prior, **options: int) -> set[int]:
        return {len(codes) for codes in sampled(prior, conditions, range(5), **options)}

    assert lengths(always) == {4} and lengths(never) == {18}
    assert lengths(always, min_codes=7) == {7} and lengths(never, max_codes=9) == {9}
    for wrong in ({"min_codes": 0}, {"min_codes": 9, "max_codes": 8}, {"max_codes": 19}):
        with pytest.raises(ValueError, match="max_codes"):
            sampled(never, conditions, range(5), **wrong)


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance": 2.0, "top_k": 5}, {"repetitions": 0, "top_p": 0.5}, {"max_codes": 12}],
)
@pytest.mark.parametrize("condition", ["label+speaker", "text"])
def test_a_seed_gives_the_same_ending_codes_in_any_batch(condition: str, options: dict) -> None:
    prior = speech_prior(condition)
    conditions = prior.conditions(3, **GIVEN[condition])
    together = sampled(prior, conditions, [7, 8, 9], **options)
    for i, seed in enumerate((7, 8, 9)):
        (alone,) = sampled(prior, conditions[i : i + 1], [seed], **options)
        assert torch.equal(together[i], alone)


def test_likeliest_codes_until_the_end_are_those_of_the_whole_sequence() -> None:
    prior = speech_prior("text")
    conditions = prior.conditions(3, **GIVEN["text"])
    samples = sampled(prior, conditions, [0, 1, 2], temperature=0.0, guidance=2.0)
    none = torch.tensor([prior.config.no_condition])
    for i, codes in enumerate(samples):
        c, u = (
            prior.vocabulary.logits(prior.hidden(condition, codes[None]))[0]
            for condition in (conditions[i : i + 1], none)
        )
        logits = u + 2.0 * (c - u)
        logits[0, SPEECH_K] = -torch.inf
        likeliest = logits.argmax(1)
        assert torch.equal(likeliest[:-1], codes)
        assert likeliest[-1] == SPEECH_K or len(codes) == 18


def test_repetitions_are_replaced_where_sequences_do_not_end_too() -> None:
    """A code that is drawn again by the same random value would be the same code."""
    prior = image_prior()
    conditions = prior.conditions(20)
    plain, replaced = (
        torch.stack(sampled(prior, conditions, range(20), repetitions=most)) for most in (None, 0)
    )
    assert (plain != replaced).any(1).float().mean() > 0.5


def test_repetitions_are_replaced_from_the_whole_distribution() -> None:
    prior = with_end(speech_prior("none", head="codebook"), -100.0)
    with torch.no_grad():
        prior.vocabulary.output_bias[5] = 4.0
    conditions = prior.conditions(20)

    def most(repetitions: int | None) -> int:
        samples = sampled(
            prior, conditions, range(20), top_k=1, repetitions=repetitions, max_codes=WINDOW
        )
        return sum(int(codes.bincount().max()) for codes in samples)

    assert most(None) == 20 * WINDOW > most(0)


def test_a_prompt_begins_its_sample_whatever_stands_beside_it() -> None:
    prior = speech_prior("label")
    conditions = prior.conditions(2, labels=[0, 1])
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6, 7, 8])]
    together = sampled(prior, conditions, [5, 6], prompts=prompts)
    for i, prompt in enumerate(prompts):
        assert torch.equal(together[i][: len(prompt)], prompt)
        one = conditions[i : i + 1]
        (alone,) = sampled(prior, one, [5 + i], prompts=[prompt])
        assert torch.equal(together[i], alone)
    with pytest.raises(ValueError, match="18 codes leaves no room"):
        sampled(prior, conditions[:1], [0], prompts=[torch.zeros(18, dtype=torch.int64)])


def test_a_prompt_begins_sequences_of_one_length_too() -> None:
    prior, prompts = image_prior(), [torch.tensor([4, 9]), torch.tensor([7, 7, 7, 7])]
    codes = sample_codes(prior, prior.conditions(2, labels=[0, 1]), [1, 2], prompts=prompts)
    assert codes.shape == (2, LENGTH) and int(codes.min()) >= 0
    assert codes[0, :2].tolist() == [4, 9] and codes[1, :4].tolist() == [7] * 4
