"""The fast decoder and the plain one are one function; what is drawn by either is the same."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from helpers.priors import drawn_anew
from transformers import GPT2Model, PreTrainedModel

import stage2_prior.depth
import stage2_prior.model
from stage2_prior import Prior, PriorConfig
from stage2_prior.decoding import LlamaDecoder, StockDecoder, decoder
from stage2_prior.kinds import prior_of, speech_prior_of
from stage2_prior.model import body
from stage2_prior.sampling import sample_codes, uniforms
from stage2_prior.speech_model import SpeechPriorConfig
from stage2_prior.speech_sampling import sample_until_end

CONFIG = PriorConfig(codebook_size=50, code_dim=6, length=12, size="1m")


def stock(model: PreTrainedModel, rows: int) -> StockDecoder:
    return StockDecoder(model)


def test_each_body_has_its_decoder() -> None:
    assert isinstance(decoder(body(CONFIG)[0], 2), LlamaDecoder)
    gpt2, _ = body(PriorConfig(codebook_size=50, code_dim=6, length=12, size="1m", style="gpt2"))
    assert isinstance(gpt2, GPT2Model) and isinstance(decoder(gpt2, 2), StockDecoder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("first", [1, 4])
@torch.no_grad()
def test_states_are_those_of_the_plain_path_bit_for_bit(first: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    llama, width = body(CONFIG)
    llama.eval().to(dtype).set_input_embeddings(torch.nn.Identity())
    fast, plain = LlamaDecoder(llama, 3), StockDecoder(llama)
    for n in [first, *[1] * (12 - first)]:
        inputs = torch.randn(3, n, width, dtype=dtype)
        assert torch.equal(fast(inputs), plain(inputs))


@pytest.mark.parametrize("head", ["learned", "codebook"])
@torch.no_grad()
def test_guidance_of_states_is_guidance_of_logits(head: Literal["learned", "codebook"]) -> None:
    torch.manual_seed(0)
    prior = drawn_anew(Prior(replace(CONFIG, head=head)))
    if head == "codebook":
        prior.tables.take(torch.randn(50, 6))
        torch.nn.init.normal_(prior.tables.output_bias)
    inputs = torch.randn(6, 1, prior.body.config.hidden_size)
    conditional, unconditional = prior.step(inputs, prior.new_cache(6)).chunk(2)
    expected = unconditional + 3.5 * (conditional - unconditional)
    mixed = prior.step(inputs, prior.new_cache(6), 3.5)
    torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mixed, conditional, atol=0.1)


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures_are_the_same_by_either(
    levels_by: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=50,
        code_dim=6,
        length=12,
        sizes=(50, 20, 50),
        levels_by=levels_by,  # type: ignore[arg-type]
        classes=3,
        size="1m",
    )
    prior = drawn_anew(prior_of(config))
    labels, random = torch.tensor([0, 1, 2, 3]), uniforms(range(4), 12)
    fast = sample_codes(prior, labels, random, guidance=guidance)
    monkeypatch.setattr(stage2_prior.model, "decoder", stock)
    monkeypatch.setattr(stage2_prior.depth, "decoder", stock)
    assert torch.equal(fast, sample_codes(prior, labels, random, guidance=guidance))


@pytest.mark.parametrize(
    ("levels_by", "sizes"), [("flattened", ()), ("flattened", (50, 20)), ("depth", (50, 20))]
)
def test_recordings_after_prompts_are_the_same_by_either(
    levels_by: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = SpeechPriorConfig(
        codebook_size=50,
        code_dim=6,
        length=12,
        sizes=sizes,
        levels_by=levels_by,  # type: ignore[arg-type]
        size="1m",
        condition="text",
        characters="abc",
        text_length=5,
        max_codes=12,
    )
    prior = drawn_anew(speech_prior_of(config))
    conditions = prior.conditions(2, texts=["ab", "cabb"])
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4, 5])]

    def samples() -> list[torch.Tensor]:
        return sample_until_end(prior, conditions, [1, 2], prompts=prompts, guidance=2.0)

    fast = samples()
    monkeypatch.setattr(stage2_prior.model, "decoder", stock)
    monkeypatch.setattr(stage2_prior.depth, "decoder", stock)
    for mine, plain in zip(fast, samples(), strict=True):
        assert torch.equal(mine, plain)
