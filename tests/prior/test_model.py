"""The prior: its loss, what each code sees, its vocabulary, conditions, ends."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.priors import (
    GIVEN,
    LENGTH,
    LONGEST,
    PARTS,
    SPEECH_K,
    K,
    image_prior,
    random_prior,
    sampled,
    speech_prior,
)
from torch import Tensor

import stage2_prior.cross_entropy
from stage2_prior import Prior, PriorConfig
from stage2_prior.build import load_prior
from stage2_prior.depth import DepthPrior
from stage2_prior.model import as_numbers
from stage2_prior.sampling import sample_codes


def test_the_chunked_loss_equals_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = image_prior()
    conditions, codes = torch.tensor([[0], [3]]), torch.randint(0, K, (2, LENGTH))

    def loss_and_gradients() -> list[torch.Tensor]:
        prior.zero_grad()
        loss = prior(conditions, codes)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in prior.parameters() if p.grad is not None)]

    whole = loss_and_gradients()
    monkeypatch.setattr(stage2_prior.cross_entropy, "LOGITS_AT_ONCE", 5 * K)
    monkeypatch.setattr(stage2_prior.cross_entropy, "LEAST_STATES", 1)
    for chunked, plain in zip(loss_and_gradients(), whole, strict=True):
        torch.testing.assert_close(chunked, plain)
    logits = prior.vocabulary.logits(prior.hidden(conditions, codes[:, :-1]))
    torch.testing.assert_close(
        whole[0], F.cross_entropy(logits.flatten(0, 1), codes.flatten()).detach()
    )


def test_no_code_sees_itself_or_what_comes_after() -> None:
    prior = image_prior()
    codes = torch.randint(0, K, (1, LENGTH))
    changed = codes.clone()
    changed[0, 6:] = (codes[0, 6:] + 1) % K
    label = torch.tensor([[1]])
    before, after = (prior.hidden(label, c) for c in (codes, changed))
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_the_codebook_head_costs_no_vector_per_code() -> None:
    def trainable(codebook_size: int) -> int:
        config = PriorConfig(
            codebook_size=codebook_size, code_dim=8, length=4, size="1m", head="codebook"
        )
        return sum(p.numel() for p in Prior(config).parameters())

    assert trainable(10_000) - trainable(1_000) == 9_000  # the bias alone grows


@pytest.mark.parametrize("head", ["learned", "codebook"])
def test_the_vocabulary_is_exactly_k_and_save_and_load_keep_it(head: str, tmp_path: Path) -> None:
    prior = image_prior(head=head)
    hidden = prior.hidden(torch.tensor([[0]]), torch.zeros(1, 0, dtype=torch.long))
    assert prior.vocabulary.logits(hidden).shape[-1] == K
    prior.save_pretrained(tmp_path / head)
    loaded = Prior.from_pretrained(tmp_path / head)
    first, again = (sample_codes(p, torch.tensor([[1]]), [1]) for p in (prior, loaded))
    assert torch.equal(first, again)


def test_named_sizes_are_what_they_say() -> None:
    for name in ("1m", "3m", "10m", "30m"):
        config = PriorConfig(codebook_size=2, code_dim=1, length=4, size=name)  # type: ignore[arg-type]
        millions = sum(p.numel() for p in Prior(config).body.parameters()) / 1e6
        assert millions == pytest.approx(float(name[:-1]), rel=0.15)


@pytest.mark.parametrize("style", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("condition", list(PARTS))
def test_the_loss_of_a_padded_batch_is_the_mean_over_its_items(condition: str, style: str) -> None:
    prior = speech_prior(condition, style=style)
    conditions = prior.conditions(3, **GIVEN[condition])
    items = [torch.randint(0, SPEECH_K, (size,)) for size in (5, 12, 1)]
    codes = torch.stack([F.pad(item, (0, 12 - len(item)), value=-1) for item in items])
    sums = [
        prior(conditions[i : i + 1], item[None]) * (len(item) + 1) for i, item in enumerate(items)
    ]
    torch.testing.assert_close(prior(conditions, codes), torch.stack(sums).sum() / (18 + 3))


def test_the_loss_is_the_cross_entropy_of_codes_and_end() -> None:
    prior = speech_prior("none")
    codes = torch.randint(0, SPEECH_K, (1, 6))
    logits = prior.vocabulary.logits(prior.hidden(prior.conditions(1), codes))[0]
    assert logits.shape == (7, SPEECH_K + 1)
    expected = F.cross_entropy(logits, torch.cat([codes[0], torch.tensor([SPEECH_K])]))
    torch.testing.assert_close(prior(prior.conditions(1), codes), expected)


@pytest.mark.parametrize("style", ["llama", "qwen3", "gpt2"])
def test_samples_may_be_shorter_than_what_is_learned(style: str) -> None:
    prior = speech_prior("none", style=style, max_codes=4)
    assert prior(prior.conditions(2), torch.randint(0, SPEECH_K, (2, LONGEST))).isfinite()
    samples = sampled(prior, prior.conditions(9), range(9), min_codes=4)
    assert {len(row) for row in samples} == {4}


@pytest.mark.parametrize(
    ("condition", "given", "words"),
    [
        ("label", {"labels": [3]}, "label 3: this prior has 3 labels"),
        (
            "label+speaker",
            {"labels": [0], "speakers": [-1]},
            "speaker -1: this prior has 2 speakers",
        ),
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
        speech_prior(condition).conditions(1, **given)
    assert "\n" not in str(caught.value)


def test_each_part_of_a_condition_has_a_last_entry_for_none() -> None:
    prior = speech_prior("label+speaker")
    assert prior.condition_embedding.num_embeddings == (3 + 1) + (2 + 1)
    assert prior.conditions(1).tolist() == [[3, 6]]
    assert prior.conditions(1, labels=[2], speakers=[1]).tolist() == [[2, 5]]
    with pytest.raises(ValueError, match="label and speaker together: give both"):
        prior.conditions(1, labels=[2])  # training withholds both or none
    assert speech_prior("text").conditions(2, texts=["ten", "THREE"]).tolist() == [
        [7, 7, 6, 1, 3],
        [6, 2, 5, 1, 1],
    ]


def test_labels_alone_are_entries_before_none() -> None:
    prior = image_prior()
    assert prior.conditions(2).tolist() == [[3], [3]]
    for labels in ([2, 0], torch.tensor([2, 0]), torch.tensor([2, 0], dtype=torch.uint8)):
        assert prior.conditions(2, labels=labels).tolist() == [[2], [0]]
    with pytest.raises(ValueError, match="labels must be one whole number for each sample"):
        as_numbers("label", torch.tensor([0.5]), 3)
    config = PriorConfig(codebook_size=K, code_dim=6, length=LENGTH, size="1m")
    assert not config.parts and Prior(config).conditions(1).tolist() == [[0]]


def test_a_prior_by_depth_and_one_in_training_mode_are_told_in_words() -> None:
    config = PriorConfig(
        codebook_size=K, code_dim=6, length=LENGTH, sizes=(K, 3), levels_by="depth", size="1m"
    )
    with pytest.raises(ValueError, match=r"use DepthPrior\(config\), or load_prior\(folder\)"):
        Prior(config)
    prior = image_prior(dropout=0.1).train()
    with pytest.raises(ValueError, match=r"in training mode.* call eval\(\)"):
        sample_codes(prior, prior.conditions(1), [0])


def test_a_new_prior_is_about_as_good_as_guessing() -> None:
    torch.manual_seed(0)
    prior = Prior(speech_prior("none").config).eval()
    loss = prior(prior.conditions(2), torch.randint(0, SPEECH_K, (2, 9)))
    assert float(loss.detach()) == pytest.approx(math.log(SPEECH_K + 1), abs=0.2)


def depth_prior() -> Prior:
    return random_prior(codebook_size=8, code_dim=2, length=6, sizes=(8, 8), levels_by="depth")


def test_texts_of_any_characters_are_saved_and_loaded(tmp_path: Path) -> None:
    characters = "a\u2028é日𠮷😀"
    prior = random_prior(
        codebook_size=8,
        code_dim=2,
        length=6,
        condition="text",
        characters=characters,
        text_length=3,
    )
    prior.save_pretrained(tmp_path)
    assert load_prior(tmp_path).config == prior.config


@pytest.mark.parametrize("make", [image_prior, depth_prior], ids=["prior", "by depth"])
def test_half_precision_does_not_move_places(make: Callable[[], Prior]) -> None:
    """Rotary frequencies in bfloat16 would turn far places by another angle."""
    prior, half = make(), make().to(torch.bfloat16)
    for exact, own in zip(prior.modules(), half.modules(), strict=True):
        if isinstance(getattr(exact, "inv_freq", None), Tensor):
            assert torch.equal(own.inv_freq, exact.inv_freq)
    assert next(half.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"order": "random"}, {"style": "gpt2"}])
def test_a_sequence_beyond_the_learned_places_is_refused(options: dict[str, Any]) -> None:
    prior = speech_prior("none", **options)
    codes = torch.zeros(1, 20, dtype=torch.long)
    with pytest.raises(ValueError, match="has 20 codes, and this prior has places for 18"):
        prior.nats(prior.conditions(1), codes)


def test_a_length_that_is_no_whole_number_of_positions_is_told() -> None:
    for length in (0, 15):
        with pytest.raises(
            ValueError, match=f"length={length} must be a positive multiple of the 2"
        ):
            PriorConfig(codebook_size=8, code_dim=2, length=length, sizes=(8, 8))
    flattened = PriorConfig(codebook_size=8, code_dim=2, length=6, sizes=(8, 8))
    with pytest.raises(ValueError, match=r"levels_by='flattened' is of another class: use Prior"):
        DepthPrior(flattened)
