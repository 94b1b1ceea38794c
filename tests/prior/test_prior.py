"""The prior and its sampling: transformers' own `generate`, seeds, guidance, chunks, tables."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.priors import drawn_anew
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, SuppressTokensLogitsProcessor
from transformers.generation import LogitsProcessorList

import stage2_prior.cross_entropy
import stage2_prior.sampling
from stage2_prior import Prior, PriorConfig
from stage2_prior.sampling import choose, guidance_at, sample_codes, uniforms

K, LENGTH, CLASSES = 50, 12, 3


def tiny(**options: object) -> Prior:
    torch.manual_seed(0)
    prior = Prior(
        PriorConfig(
            codebook_size=K, code_dim=6, length=LENGTH, classes=CLASSES, size="1m", **options
        )  # type: ignore[arg-type]
    )
    if prior.config.head == "codebook":
        prior.tables.take(torch.randn(K, 6))
    return drawn_anew(prior)


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
        stock.model.embed_tokens.weight[:K] = prior.tables.embedding.weight
        stock.model.embed_tokens.weight[K:] = prior.condition_embedding.weight
        stock.lm_head.weight[:K] = prior.tables.output.weight
        stock.lm_head.weight[K:] = 0
    return stock


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_greedy_sampling_equals_generate(guidance: float) -> None:
    prior = tiny()
    labels = torch.tensor([0, 2, 1])
    ours = sample_codes(
        prior, labels, uniforms([0, 1, 2], LENGTH), guidance=guidance, temperature=0.0
    )
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


@pytest.mark.parametrize("style", ["llama", "gpt2"])
@pytest.mark.parametrize("head", ["learned", "codebook"])
def test_sampling_with_cache_equals_the_whole_sequence_anew(style: str, head: str) -> None:
    prior = tiny(style=style, head=head)
    labels, random = torch.tensor([1, 3]), uniforms([5, 6], LENGTH)
    codes = sample_codes(prior, labels, random)
    logits = prior.tables.logits(prior.hidden(labels, codes[:, :-1]))
    slow = [choose(logits[:, i], random[:, i], 1.0, 0, 1.0) for i in range(LENGTH)]
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
def test_a_seed_gives_the_same_codes_in_any_batch(options: dict) -> None:
    prior = tiny()
    labels, seeds = torch.tensor([0, 1, 2, 1]), [7, 8, 9, 10]
    together = sample_codes(prior, labels, uniforms(seeds, LENGTH), **options)
    for i, seed in enumerate(seeds):
        alone = sample_codes(prior, labels[i : i + 1], uniforms([seed], LENGTH), **options)
        assert torch.equal(together[i : i + 1], alone)
    assert not torch.equal(together[1], together[3])


def test_draws_follow_the_distribution_and_its_truncations() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log().repeat(4000, 1)
    random = torch.linspace(0, 1, 4001)[:-1]

    def shares(top_k: int = 0, top_p: float = 1.0, temperature: float = 1.0) -> list[float]:
        drawn = choose(logits, random, temperature, top_k, top_p)
        return (drawn.bincount(minlength=4) / 4000).tolist()

    assert shares() == pytest.approx([0.5, 0.2, 0.2, 0.1], abs=1e-3)
    assert shares(top_k=1) == [1, 0, 0, 0]
    assert shares(top_p=0.6) == pytest.approx([5 / 7, 2 / 7, 0, 0], abs=1e-3)
    squares = [0.25, 0.04, 0.04, 0.01]
    assert shares(temperature=0.5) == pytest.approx([s / sum(squares) for s in squares], abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 40))
def test_a_draw_never_has_probability_zero(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, k, generator=generator) * 5
    logits[:, 0] = -torch.inf
    random = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999999, 1 - 2**-24])
    drawn = choose(logits, random, 1.0, 0, 1.0)
    assert (logits.gather(1, drawn[:, None]) > -torch.inf).all()


def test_draws_are_the_same_however_many_rows_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, random = torch.randn(64, 300) * 3, torch.rand(64)
    cumulative = logits.softmax(1, dtype=torch.float64).cumsum(1)
    target = random.double()[:, None] * cumulative[:, -1:]
    expected = torch.searchsorted(cumulative, target, right=True)[:, 0]
    for rows in (1, 7, 64):
        monkeypatch.setattr(stage2_prior.sampling, "NUMBERS_AT_ONCE", rows * 300)
        assert torch.equal(choose(logits, random, 1.0, 0, 1.0), expected)


def test_guidance_schedules_end_at_the_full_scale() -> None:
    def scales(schedule: str) -> list[float]:
        return [guidance_at(i, 5, 3.0, schedule, 1.0) for i in range(5)]  # type: ignore[arg-type]

    assert scales("constant") == [3.0] * 5
    assert scales("linear") == pytest.approx([1, 1.5, 2, 2.5, 3])
    assert scales("power-cosine") == pytest.approx([1, 1.2929, 2, 2.7071, 3], abs=1e-4)


def test_the_chunked_loss_equals_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = tiny()
    conditions, codes = torch.tensor([0, 3]), torch.randint(0, K, (2, LENGTH))

    def loss_and_gradients() -> list[torch.Tensor]:
        prior.zero_grad()
        loss = prior(conditions, codes)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in prior.parameters() if p.grad is not None)]

    whole = loss_and_gradients()
    monkeypatch.setattr(stage2_prior.cross_entropy, "LOGITS_AT_ONCE", 5 * K)
    monkeypatch.setattr(stage2_prior.cross_entropy, "LEAST_ROWS", 1)
    for chunked, plain in zip(loss_and_gradients(), whole, strict=True):
        torch.testing.assert_close(chunked, plain)
    logits = prior.tables.logits(prior.hidden(conditions, codes[:, :-1]))
    torch.testing.assert_close(
        whole[0], F.cross_entropy(logits.flatten(0, 1), codes.flatten()).detach()
    )


def test_no_code_sees_itself_or_what_comes_after() -> None:
    prior = tiny()
    codes = torch.randint(0, K, (1, LENGTH))
    changed = codes.clone()
    changed[0, 6:] = (codes[0, 6:] + 1) % K
    label = torch.tensor([1])
    before, after = (prior.hidden(label, c) for c in (codes, changed))
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_the_codebook_head_costs_no_table() -> None:
    def trainable(codebook_size: int) -> int:
        config = PriorConfig(
            codebook_size=codebook_size, code_dim=8, length=4, size="1m", head="codebook"
        )
        return sum(p.numel() for p in Prior(config).parameters())

    assert trainable(10_000) - trainable(1_000) == 9_000  # the bias alone grows


def test_the_vocabulary_is_exactly_k_and_save_and_load_keep_it(tmp_path: Path) -> None:
    for head in ("learned", "codebook"):
        prior = tiny(head=head)
        assert (
            prior.tables.logits(
                prior.hidden(torch.tensor([0]), torch.zeros(1, 0, dtype=torch.long))
            ).shape[-1]
            == K
        )
        prior.save_pretrained(tmp_path / head)
        loaded = Prior.from_pretrained(tmp_path / head)
        random = uniforms([1], LENGTH)
        assert torch.equal(
            sample_codes(loaded, torch.tensor([1]), random),
            sample_codes(prior, torch.tensor([1]), random),
        )


def test_named_sizes_are_what_they_say() -> None:
    for name in ("1m", "3m", "10m", "30m"):
        config = PriorConfig(codebook_size=2, code_dim=1, length=4, size=name)  # type: ignore[arg-type]
        millions = sum(p.numel() for p in Prior(config).body.parameters()) / 1e6
        assert millions == pytest.approx(float(name[:-1]), rel=0.15)
