"""What only a GPU can show, against the same on the CPU; skipped where there is none."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.image_runs import tokenizer_config
from helpers.priors import image_prior, speech_prior
from helpers.quantizer_cases import CASES, DIM
from helpers.runs import PowerCut, cut_in_step
from helpers.speech_runs import MODEL as SPEECH_MODEL
from torch import Tensor

import stage1_tokenizer.train
from benchmarks.prior_step import Case, new_prior, training
from benchmarks.tokenizer_step import batch_of, cifar10_cpu, our_way
from common.tracking import read_metrics
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.quantizers.search import nearest
from stage1_tokenizer.train import train_tokenizer
from stage2_prior.sampling import sample_codes
from stage2_prior.sampling_options import SamplingOptions
from stage2_prior.train import take_step as take_prior_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def tf32() -> Iterator[None]:
    """TF32 allowed, as users do for their networks."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def share_equal(a: Tensor, b: Tensor) -> float:
    return float((a.cpu() == b.cpu()).float().mean())


@pytest.mark.parametrize("dim", [8, 128])
@pytest.mark.usefixtures("tf32")
def test_the_search_is_exact_though_tf32_is_allowed(dim: int) -> None:
    torch.manual_seed(0)
    latents, codebook = torch.randn(5000, dim) + 3, torch.randn(3000, dim) + 3
    codes = nearest(latents.cuda(), codebook.cuda()).cpu()
    distances = torch.cdist(latents.double(), codebook.double())
    chosen = distances.gather(1, codes[:, None]).squeeze(1)
    torch.testing.assert_close(chosen, distances.min(1).values, atol=1e-5, rtol=1e-5)
    assert share_equal(codes, nearest(latents, codebook)) > 0.999
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.equal(codes, nearest(latents.cuda(), codebook.cuda()).cpu())


def test_of_equal_codes_the_lowest_wins() -> None:
    codebook = torch.eye(4, device="cuda").repeat(5000, 1)
    assert nearest(torch.eye(4, device="cuda"), codebook).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", CASES)
def test_a_quantizer_that_trains_gives_a_cpu_the_same_codes(name: str) -> None:
    torch.manual_seed(0)
    quantizer = CASES[name].make().cuda()
    latents = torch.randn(4, 200, DIM, device="cuda")
    quantizer.init_from(latents)
    optimizer = torch.optim.SGD(quantizer.parameters(), 1e-3) if [*quantizer.parameters()] else None
    for _ in range(3):
        out = quantizer.train()(latents.clone().requires_grad_())
        (out.loss + out.latents.square().mean()).backward()
        if optimizer:
            optimizer.step()
        quantizer.accumulate(out.inputs, out.codes.flatten(0, 1))
        quantizer.after_step()
    codes = quantizer.eval().encode(latents)
    chosen = quantizer.lookup(codes)
    quantizer.cpu()
    assert share_equal(codes, quantizer.encode(latents.cpu())) > 0.995
    torch.testing.assert_close(chosen.cpu(), quantizer.lookup(codes.cpu()), atol=1e-5, rtol=1e-5)


def image_tokenizer() -> tuple[ImageTokenizer, Tensor]:
    config = cifar10_cpu(64)
    torch.manual_seed(0)
    tokenizer, images = ImageTokenizer(config.model).eval(), batch_of(config, torch.device("cpu"))
    with torch.no_grad():
        latents = tokenizer.latents(images["images"]).movedim(1, -1)
        tokenizer.quantizer.init_from(latents)
    return tokenizer, images["images"]


def speech_tokenizer() -> tuple[SpeechTokenizer, Tensor]:
    torch.manual_seed(0)
    tokenizer, clips = SpeechTokenizer(SPEECH_MODEL).eval(), torch.randn(16, 8000) * 0.1
    with torch.no_grad():
        tokenizer.quantizer.init_from(tokenizer.latents(clips, None).movedim(1, -1))
    return tokenizer, clips


@pytest.mark.parametrize("make", [image_tokenizer, speech_tokenizer])
@pytest.mark.usefixtures("tf32")
def test_codes_are_those_of_a_cpu_whatever_the_precision_and_batch(make: Any) -> None:
    """But for near ties: rounding of the networks' sums decides them."""
    tokenizer, items = make()
    expected = tokenizer.encode(items)
    rebuilt = tokenizer.decode(expected)
    tokenizer.cuda()
    codes = tokenizer.encode(items.cuda())
    equal = {
        "cpu": share_equal(codes, expected),
        "alone": share_equal(torch.cat([tokenizer.encode(x[None].cuda()) for x in items]), codes),
    }
    assert min(equal.values()) > 0.999
    for low in (torch.bfloat16, torch.float16):
        with torch.autocast("cuda", low):
            assert torch.equal(tokenizer.encode(items.cuda()), codes)
    torch.testing.assert_close(
        tokenizer.decode(expected.cuda()).cpu(), rebuilt, atol=1e-2, rtol=1e-2
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_that_goes_on_gives_what_one_in_one_piece_does(
    precision: Any, tmp_path: Path
) -> None:
    """Losses to rounding: sums on a GPU come in no fixed order."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_tokenizer(tokenizer_config(whole, precision=precision))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        cut_in_step(patch, stage1_tokenizer.train, 6)
        train_tokenizer(tokenizer_config(cut, precision=precision))
    train_tokenizer(tokenizer_config(cut, precision=precision))
    expected, actual = (read_metrics(folder)[-1] for folder in (whole, cut))
    for key in expected:
        if key.startswith("loss/"):
            assert actual[key] == pytest.approx(expected[key], rel=1e-2, abs=1e-3), key


def tokenizer_step() -> Any:
    return our_way(cifar10_cpu(16), "bf16", 1)


def prior_step() -> Any:
    case = Case(size="1m", codebook_size=500, precision="bf16", length=16, code_dim=8)
    prior = new_prior(case, "codebook")
    codes = torch.randint(500, (8, 16))
    run = training(case, prior, codes.cuda())
    batches = repeat((prior.conditions(8).pin_memory(), codes.pin_memory()))
    run.model.train()
    return lambda: take_prior_step(run, batches, 1)


@pytest.mark.parametrize("make", [tokenizer_step, prior_step])
def test_a_step_never_waits_for_the_gpu(make: Any) -> None:
    step = make()
    step()  # what is set up once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("make", [image_prior, speech_prior])
def test_a_sample_is_its_seeds_in_any_batch_and_on_a_cpu(make: Any) -> None:
    prior = make()
    conditions = prior.conditions(16)
    options = SamplingOptions(guidance=2.0)
    expected = sample_codes(prior, conditions, range(16), options)
    prior.cuda()
    codes = sample_codes(prior, conditions.cuda(), range(16), options)
    alone = sample_codes(prior, conditions[5:6].cuda(), [5], options)
    width = min(alone.shape[1], codes.shape[1])
    assert torch.equal(alone[0, :width], codes[5, :width])
    width = min(expected.shape[1], codes.shape[1])
    assert share_equal(codes[:, :width], expected[:, :width]) > 0.98
