"""The fast cached body and the stock one are one function; samples by either are the same."""

from typing import Literal

import pytest
import torch
from helpers.priors import image_prior, random_prior, sampled
from transformers import GPT2Model, PreTrainedModel

import stage2_prior.depth
import stage2_prior.model
from stage2_prior.decoding import CachedBody, LlamaBody, StockBody, cached, new_body
from stage2_prior.logits import classifier_free_guidance
from stage2_prior.sampling import sample_codes
from stage2_prior.sampling_options import SamplingOptions


def stock(body: PreTrainedModel, batch_size: int) -> StockBody:
    return StockBody(body)


def test_each_style_has_its_cached_body() -> None:
    assert isinstance(cached(new_body("1m", "llama", 12, 0.0), 2), LlamaBody)
    assert isinstance(cached(new_body("1m", "qwen3", 12, 0.0), 2), LlamaBody)
    gpt2 = new_body("1m", "gpt2", 12, 0.0)
    assert isinstance(gpt2, GPT2Model) and isinstance(cached(gpt2, 2), StockBody)


@pytest.mark.parametrize("style", ["llama", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("first", [1, 4])
@torch.no_grad()
def test_states_are_those_of_the_plain_path_bit_for_bit(
    first: int, dtype: torch.dtype, style: Literal["llama", "qwen3"]
) -> None:
    torch.manual_seed(0)
    llama = new_body("1m", style, 12, 0.0).eval().to(dtype)
    for name, weight in llama.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, mean=1, std=0.3)
    width = llama.config.hidden_size
    fast, plain = LlamaBody(llama, 3), StockBody(llama)
    for n in [first, *[1] * (12 - first)]:
        inputs = torch.randn(3, n, width, dtype=dtype)
        assert torch.equal(fast(inputs), plain(inputs))


@pytest.mark.parametrize("head", ["learned", "codebook"])
@torch.no_grad()
def test_guidance_of_states_is_guidance_of_logits(head: Literal["learned", "codebook"]) -> None:
    prior = image_prior(head=head)
    if head == "codebook":
        torch.nn.init.normal_(prior.vocabulary.output_bias)
    inputs = torch.randn(6, 1, prior.body.config.hidden_size)
    states = prior.cached_body(6)(inputs)
    conditional, unconditional = prior.logits(states, 0).chunk(2)
    expected = unconditional + 3.5 * (conditional - unconditional)
    logits = prior.logits(
        classifier_free_guidance(states, 0, 12, 1, SamplingOptions(guidance=3.5)), 0
    )
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits, conditional, atol=0.1)


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_images_are_the_same_by_either(
    levels_by: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = image_prior(sizes=(50, 20, 50), levels_by=levels_by)
    labels, options = torch.tensor([[0], [1], [2], [3]]), SamplingOptions(guidance=guidance)
    fast = sample_codes(prior, labels, range(4), options)
    monkeypatch.setattr(stage2_prior.model, "cached", stock)
    monkeypatch.setattr(stage2_prior.depth, "cached", stock)
    assert torch.equal(fast, sample_codes(prior, labels, range(4), options))


@pytest.mark.parametrize(
    ("levels_by", "sizes"), [("flattened", ()), ("flattened", (50, 20)), ("depth", (50, 20))]
)
def test_sequences_after_prompts_are_the_same_by_either(
    levels_by: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = random_prior(
        codebook_size=50,
        code_dim=6,
        length=12,
        sizes=sizes,
        levels_by=levels_by,
        condition="text",
        characters="abc",
        text_length=5,
        max_codes=12,
    )
    conditions = prior.conditions(2, texts=["ab", "cabb"])
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4, 5])]

    def samples() -> list[torch.Tensor]:
        return sampled(prior, conditions, [1, 2], prompts=prompts, guidance=2.0)

    fast = samples()
    monkeypatch.setattr(stage2_prior.model, "cached", stock)
    monkeypatch.setattr(stage2_prior.depth, "cached", stock)
    for mine, plain in zip(fast, samples(), strict=True):
        assert torch.equal(mine, plain)


@torch.no_grad()
def test_what_a_cached_body_forgets_makes_no_difference() -> None:
    for levels_by in ("flattened", "depth"):
        prior = image_prior(sizes=(50, 20), levels_by=levels_by)
        body, inputs = prior.cached_body(2), torch.randn(2, 1, prior.body.config.hidden_size)
        assert isinstance(body, CachedBody)
        first = body(inputs)
        body.restart()
        assert torch.equal(first, body(inputs))
