"""The device path of every recipe without a GPU: nothing is on the wrong device, and what is read back is counted."""

import pytest
import torch

from benchmarks.traces import (
    TracedTraining,
    fake_cuda,
    new_codes,
    new_items,
    new_prior,
    new_tokenizer,
    on_meta,
    recipes,
)
from stage1_tokenizer import SpeechTokenizer
from stage2_prior.sampling import sample_codes
from stage2_prior.sampling_options import SamplingOptions

RECIPES = recipes()
FIRST = ("digits", "cifar10", "librispeech_cpu")
NAMES = [pytest.param(name, marks=[] if name in FIRST else [pytest.mark.slow]) for name in RECIPES]


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_stays_on_its_device_and_reads_nothing_back(name: str) -> None:
    """Forward, losses, encode and reconstruct; decode waits once, to check codes that come from outside."""
    config = RECIPES[name].config("tokenizer")
    with fake_cuda() as syncs:
        training, tokenizer = TracedTraining(config, "cuda"), new_tokenizer(config, "cuda")
        items = new_items(config, 2, "cuda")
        losses = training.losses(tokenizer, items)
        assert {loss.device.type for loss in losses.values()} == {"cuda"}
        tokenizer.eval()
        codes = tokenizer.encode(items)
        assert tokenizer.reconstruct(items).shape == items.shape
        assert syncs.count == 0
        decoded = tokenizer.decode(codes)
        assert decoded.device.type == codes.device.type == "cuda" and syncs.count == 1
        if isinstance(tokenizer, SpeechTokenizer):  # of unequal lengths
            lengths = torch.full((2,), items.shape[1], device="cuda")
            latents = tokenizer.latents(items, lengths)
            assert tokenizer.rebuild(latents, items.shape[1], lengths).shape == items.shape


@pytest.mark.parametrize("name", NAMES)
def test_a_prior_stays_on_its_device(name: str) -> None:
    """Loss, and sampling with guidance; where samples may end, each code asks once whether all have."""
    with fake_cuda() as syncs:
        prior = new_prior(RECIPES[name], "cuda")
        conditions, codes = new_codes(prior, 2, "cuda")
        assert prior(conditions, codes).device.type == "cuda" and syncs.count == 0
        few = 4
        options = SamplingOptions(guidance=2.0, top_k=5, top_p=0.9, max_codes=few)
        sampled = sample_codes(prior.eval(), conditions, [0, 1], options)
        assert sampled.device.type == "cuda" and sampled.shape == (2, few)
        assert syncs.count <= 1 + few * prior.config.ends


@pytest.mark.parametrize("name", NAMES)
def test_backward_reaches_every_weight(name: str) -> None:
    """On the device `meta`, for autograd starts threads of its own for a GPU."""
    config = RECIPES[name].config("tokenizer")
    with on_meta():
        training, tokenizer = TracedTraining(config, "meta"), new_tokenizer(config, "meta")
        losses = training.losses(tokenizer, new_items(config, 2, "meta"))
        torch.stack(list(losses.values())).sum().backward()
        prior = new_prior(RECIPES[name], "meta")
        prior(*new_codes(prior, 2, "meta")).backward()
    for module in (tokenizer, prior, *filter(None, [training.discriminator])):
        for key, weight in module.named_parameters():
            assert weight.grad is not None and weight.grad.shape == weight.shape, key


def test_what_is_on_another_device_is_found_and_what_is_read_back_counted() -> None:
    with fake_cuda() as syncs:
        there, here = torch.rand(3, device="cuda"), torch.rand(3)
        with pytest.raises(RuntimeError, match="two different devices"):
            there + here
        assert float(there.sum()) == 0 and syncs.count == 1
        assert there.cpu().sum().item() == 0 and syncs.count == 2
