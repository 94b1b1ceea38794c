"""Latents in any arrangement, and masks, give what the same vectors give as a plain list; keywords are named."""

import copy
import inspect
from dataclasses import fields

import pytest
import torch
from helpers.quantizer_cases import CASES, DIM, Case, vectors
from torch import Tensor

from stage1_tokenizer.quantizers import METHODS, PADDING, Quantizer, SimVQ

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def pair(case: Case) -> tuple[Quantizer, Tensor]:
    """A quantizer in eval mode, which has no noise, and latents (3, 50, d)."""
    torch.manual_seed(0)
    quantizer = case.make().eval()
    latents = vectors()
    quantizer.init_from(latents)
    return quantizer, latents


@every
def test_channels_first_and_grids_are_the_same_vectors(case: Case) -> None:
    quantizer, latents = pair(case)
    plain = quantizer(latents)
    grid = latents.unflatten(1, (5, 10))
    last, first = quantizer(grid), quantizer(grid.movedim(-1, 1), channels_first=True)
    assert torch.equal(last.latents.flatten(1, 2), plain.latents)
    assert torch.equal(first.latents, last.latents.movedim(-1, 1))
    assert torch.equal(last.codes.flatten(1, 2), plain.codes)
    assert torch.equal(first.codes, last.codes)
    assert torch.equal(first.loss, plain.loss)


@every
def test_what_a_mask_leaves_out_counts_for_nothing(case: Case) -> None:
    quantizer, latents = pair(case)
    mask = torch.arange(50) < torch.tensor([[50], [20], [1]])
    alone = quantizer(latents[mask][None])
    out = quantizer(latents.masked_fill(~mask[..., None], torch.nan), mask=mask)
    assert torch.equal(out.latents[mask], alone.latents[0])
    assert torch.equal(out.codes[mask], alone.codes[0])
    assert not out.latents[~mask].any() and (out.codes[~mask] == PADDING).all()
    assert torch.equal(out.loss, alone.loss)
    assert len(out.inputs) == 71


def test_a_masked_grid_with_channels_first_gives_its_gradient_to_what_counts() -> None:
    latents = torch.randn(2, DIM, 3, 4, requires_grad=True)
    mask = torch.rand(2, 3, 4) < 0.5
    out = SimVQ(codebook_size=8, code_dim=DIM)(latents, channels_first=True, mask=mask)
    out.latents.sum().backward()
    assert latents.grad is not None
    assert torch.equal(latents.grad.movedim(1, -1).any(-1), mask)


def test_the_result_unpacks() -> None:
    out = SimVQ(codebook_size=8, code_dim=DIM)(vectors())
    latents, codes, loss = out
    assert latents is out.latents and codes is out.codes and torch.equal(loss, out.loss)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((2, DIM, 3, 4), {}, "say channels_first=True"),
        ((2, 5, DIM), {"channels_first": True}, "say channels_first=False"),
        ((2, 5, 7), {}, "must have the shape (b, ..., d), with d = code_dim = 6 and at least one"),
        ((0, 5, DIM), {}, "hold no vectors: leave out empty batches"),
        ((5, DIM), {}, "latents of shape (5, 6) must have the shape (b, ..., d)"),
        ((2, 5, DIM), {"mask": torch.ones(2, 4, dtype=torch.bool)}, "must have the shape (2, 5)"),
        ((2, 5, DIM), {"mask": torch.zeros(2, 5, dtype=torch.bool)}, "somewhere true"),
    ],
)
def test_what_does_not_fit_is_one_sentence(shape: tuple, options: dict, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        SimVQ(codebook_size=8, code_dim=DIM)(torch.randn(shape), **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_codebook_is_initialised_from_latents_of_either_arrangement() -> None:
    grid, first = torch.randn(2, DIM, 3, 4), SimVQ(codebook_size=8, code_dim=DIM)
    second = copy.deepcopy(first)
    first.init_from(grid, channels_first=True)
    second.init_from(grid.movedim(1, -1))
    assert torch.equal(first.codebook, second.codebook)
    with pytest.raises(ValueError, match=r"channels_first=False: d must be code_dim=6"):
        first.init_from(torch.randn(DIM, DIM, 3))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_quantizer_names_its_keywords_and_takes_its_config(method: type[Quantizer]) -> None:
    keys = inspect.signature(method).parameters
    assert list(keys) == [field.name for field in fields(method.config_class)]
    assert all(key.kind is key.KEYWORD_ONLY for key in keys.values())
    config = method.config_class()
    assert method(config).config == config
    with pytest.raises(ValueError, match=f"takes keywords.*{method.config_class.__name__}$"):
        method(config, **{"code_dim": 8})
