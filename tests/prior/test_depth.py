"""Priors over several codes per position: flattened, and with a transformer of their own."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.priors import random_prior, sampled
from torch import Tensor

from common.config import to_plain
from stage2_prior import DepthPrior, Prior, PriorConfig
from stage2_prior.build import load_prior, prior_class
from stage2_prior.logits import sample_from_logits
from stage2_prior.model import IGNORED
from stage2_prior.sampling import sample_codes, uniforms
from stage2_prior.sampling_options import SamplingOptions

SIZES, PLACES, CLASSES = (11, 5, 7), 6, 3
LENGTH = PLACES * len(SIZES)
both = pytest.mark.parametrize("levels_by", ["flattened", "depth"])


def tiny(levels_by: str = "depth", **options: Any) -> Prior:
    """A prior whose sequences all have the same length."""
    return random_prior(
        codebook_size=max(SIZES),
        code_dim=4,
        length=LENGTH,
        sizes=SIZES,
        classes=CLASSES,
        levels_by=levels_by,
        **options,
    )


def random_codes(count: int, seed: int = 0) -> Tensor:
    """Random codes, each within its level."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randint(0, size, (count, PLACES), generator=generator) for size in SIZES]
    return torch.stack(parts, -1).flatten(1)


def logits(prior: Prior, conditions: Tensor, codes: Tensor) -> list[Tensor]:
    """Those of every code from all before it, in one pass."""
    if isinstance(prior, DepthPrior):
        hidden = prior.hidden(conditions, codes).flatten(1, 2)
        return [prior.vocabulary.logits(hidden[:, i], i % 3) for i in range(LENGTH)]
    return list(prior.vocabulary.logits(prior.hidden(conditions, codes[:, :-1])).unbind(1))


@both
def test_no_code_sees_itself_or_what_comes_after(levels_by: str) -> None:
    prior, codes, labels = tiny(levels_by), random_codes(1), torch.tensor([[1]])
    before = logits(prior, labels, codes)
    for number in range(LENGTH):
        changed = codes.clone()
        changed[0, number] = (codes[0, number] + 1) % SIZES[number % 3]
        after = logits(prior, labels, changed)
        for i in range(LENGTH):
            same = torch.allclose(before[i], after[i], atol=1e-5)
            assert same == (i <= number), (number, i)


@both
@pytest.mark.parametrize("style", ["llama", "qwen3", "gpt2"])
def test_sampling_with_cache_equals_the_whole_sequence_anew(levels_by: str, style: str) -> None:
    prior = tiny(levels_by, style=style)
    labels, random = torch.tensor([[1], [0]]), uniforms([5, 6], LENGTH)
    codes = sample_codes(prior, labels, [5, 6], SamplingOptions(guidance=2.0))
    conditional = logits(prior, labels, codes)
    unconditional = logits(prior, torch.full_like(labels, CLASSES), codes)
    for i, (c, u) in enumerate(zip(conditional, unconditional, strict=True)):
        guided = (u + 2 * (c - u))[:, : SIZES[i % 3]]
        assert torch.equal(sample_from_logits(guided, random[:, i, 0], 1.0, 0, 1.0), codes[:, i]), i


@both
@pytest.mark.parametrize("options", [{}, {"top_k": 3, "guidance": 3.0, "schedule": "linear"}])
def test_a_seed_gives_the_same_codes_in_any_batch(levels_by: str, options: dict) -> None:
    prior, labels, seeds = tiny(levels_by), torch.tensor([[0], [1], [2]]), [7, 8, 9]
    together = sample_codes(prior, labels, seeds, SamplingOptions(**options))
    for i, seed in enumerate(seeds):
        alone = sample_codes(prior, labels[i : i + 1], [seed], SamplingOptions(**options))
        assert torch.equal(together[i : i + 1], alone)


@both
def test_every_sampled_code_is_one_of_its_level(levels_by: str) -> None:
    prior = tiny(levels_by)
    codes = sample_codes(prior, prior.conditions(60, labels=[0] * 60), range(60))
    by_level = codes.view(60, PLACES, 3)
    for level, size in enumerate(SIZES):
        assert by_level[..., level].unique().tolist() == list(range(size))


@both
def test_the_loss_is_the_mean_over_all_levels(
    levels_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior, codes, labels = tiny(levels_by), random_codes(4), torch.tensor([[0], [1], [2], [3]])
    sums = [
        F.cross_entropy(part, codes[:, i], reduction="sum")
        for i, part in enumerate(logits(prior, labels, codes))
    ]
    expected = torch.stack(sums).sum() / codes.numel()
    torch.testing.assert_close(prior(labels, codes), expected)
    assert prior.num_targets(codes) == codes.numel()
    monkeypatch.setattr("stage2_prior.cross_entropy.LOGITS_AT_ONCE", 5 * max(SIZES))
    monkeypatch.setattr("stage2_prior.cross_entropy.LEAST_STATES", 1)
    torch.testing.assert_close(prior(labels, codes), expected)


@both
def test_a_new_prior_is_about_as_good_as_guessing_and_training_learns_the_levels(
    levels_by: str,
) -> None:
    torch.manual_seed(0)
    config = tiny(levels_by).config
    prior = prior_class(config)(config)
    labels, codes = torch.arange(4)[:, None] % CLASSES, random_codes(4)
    guess = math.log(11) if levels_by == "flattened" else sum(map(math.log, SIZES)) / 3
    assert float(prior(labels, codes).detach()) == pytest.approx(guess, abs=0.2)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        loss = prior(labels, codes)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None for p in prior.parameters())
    assert float(loss.detach()) < 0.3 * guess


@both
def test_save_and_load_keep_the_class_and_the_samples(levels_by: str, tmp_path: Path) -> None:
    prior = tiny(levels_by)
    prior.save_pretrained(tmp_path / "prior")
    loaded = load_prior(tmp_path / "prior")
    assert type(loaded) is type(prior) and to_plain(loaded.config) == to_plain(prior.config)
    first, again = (sample_codes(p, torch.tensor([[2]]), [1]) for p in (prior, loaded))
    assert torch.equal(first, again)


def test_one_code_per_position_works_by_depth_too() -> None:
    config = PriorConfig(codebook_size=9, code_dim=2, length=5, size="1m", levels_by="depth")
    prior = DepthPrior(config).eval()
    codes = sample_codes(prior, prior.conditions(2), [1, 2])
    assert codes.shape == (2, 5) and prior(prior.conditions(2), codes).isfinite()


@both
def test_the_codebook_at_the_head_is_refused_in_words(levels_by: str) -> None:
    with pytest.raises(ValueError, match=r"head='codebook' .* set head=learned") as caught:
        tiny(levels_by, head="codebook")
    assert "\n" not in str(caught.value)


def speech(levels_by: str, **options: Any) -> Prior:
    """A prior whose sequences end."""
    return random_prior(
        codebook_size=max(SIZES),
        code_dim=4,
        length=12,
        sizes=SIZES,
        max_codes=18,
        condition="label+speaker",
        classes=3,
        speakers=2,
        levels_by=levels_by,
        **options,
    )


def logits_until_end(prior: Prior, conditions: Tensor, codes: Tensor) -> list[Tensor]:
    """Those of every code of one item, and last of its end, from all before it."""
    if isinstance(prior, DepthPrior):
        filled = torch.cat([codes, torch.zeros(3, dtype=torch.long)])
        hidden = prior.hidden(conditions, filled[None])[0].flatten(0, 1)
        return [prior.vocabulary.logits(hidden[i], i % 3) for i in range(len(codes) + 1)]
    return list(prior.vocabulary.logits(prior.hidden(conditions, codes[None]))[0])


@both
def test_the_loss_of_speech_counts_each_code_and_one_end(levels_by: str) -> None:
    prior, codes = speech(levels_by), random_codes(3)[:, :12]
    codes[1, 6:], codes[2, 3:] = IGNORED, IGNORED
    conditions = prior.conditions(3, labels=[0, 1, 2], speakers=[1, 0, 1])
    total = torch.zeros(())
    for condition, padded in zip(conditions, codes, strict=True):
        item = padded[padded != IGNORED]
        targets = [*item, torch.tensor(max(SIZES))]
        by_code = logits_until_end(prior, condition[None], item)
        total = total + sum(map(F.cross_entropy, by_code, targets))
    assert prior.num_targets(codes) == 12 + 6 + 3 + 3
    torch.testing.assert_close(prior(conditions, codes), total / 24)


def test_by_depth_only_the_first_code_of_a_position_can_be_the_end() -> None:
    prior = speech("depth")
    by_code = logits_until_end(prior, prior.conditions(1), random_codes(1)[0, :12])
    for number, logits in enumerate(by_code):
        own = torch.arange(max(SIZES)) < SIZES[number % 3]
        assert logits[:-1].isfinite().equal(own) and logits[-1].isfinite() == (number % 3 == 0)


@both
@pytest.mark.parametrize("options", [{}, {"repetitions": 0}, {"guidance": 2.0, "min_codes": 4}])
def test_speech_ends_after_whole_positions_alone(levels_by: str, options: dict) -> None:
    prior = speech(levels_by)
    samples = sampled(prior, prior.conditions(60), range(60), **options)
    lengths = {len(codes) for codes in samples}
    assert lengths <= {3, 6, 9, 12, 15, 18} and len(lengths) > 2
    assert min(lengths) >= options.get("min_codes", 1)
    for codes in samples:
        for level, size in enumerate(SIZES):
            assert int(codes[level::3].max()) < size
    (alone,) = sampled(prior, prior.conditions(1), [7], **options)
    assert torch.equal(alone, samples[7])


@both
def test_speech_goes_on_with_a_prompt_of_several_levels(levels_by: str) -> None:
    prior = speech(levels_by)
    prompts = [random_codes(1)[0, :6], random_codes(1)[0, :11]]
    conditions = prior.conditions(2, labels=[2, 0], speakers=[1, 0])
    samples = sampled(prior, conditions, [5, 6], prompts=prompts, temperature=0.0)
    for condition, codes, prompt in zip(conditions, samples, prompts, strict=True):
        assert torch.equal(codes[: len(prompt)], prompt) and len(codes) % 3 == 0
        likeliest = logits_until_end(prior, condition[None], codes)
        for number in range(len(prompt), len(codes)):
            assert likeliest[number][: SIZES[number % 3]].argmax() == codes[number]


@both
def test_saved_speech_keeps_its_class_and_its_samples(levels_by: str, tmp_path: Path) -> None:
    prior = speech(levels_by)
    prior.save_pretrained(tmp_path / "prior")
    loaded = load_prior(tmp_path / "prior")
    assert type(loaded) is type(prior) and to_plain(loaded.config) == to_plain(prior.config)
    first, again = (sampled(p, p.conditions(2), [3, 4]) for p in (prior, loaded))
    assert all(map(torch.equal, first, again))


def test_a_longest_sample_must_be_whole_positions() -> None:
    prior = speech("flattened")
    with pytest.raises(ValueError, match="max_codes=17 must be a multiple of the 3 codes"):
        sampled(prior, prior.conditions(1), [0], max_codes=17)
