"""What every quantizer must do, as checks that a quantizer outside this package can run too."""

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from stage1_tokenizer.quantizers.base import Quantized, Quantizer

Make = Callable[[], Quantizer]
"""Returns a new quantizer; all that it returns have the same options."""


def check_quantizer(make: Make, straight_through: bool = True, soft: bool = False) -> None:
    """Raises AssertionError, with a sentence, where the quantizers that `make` returns break the contract.

    `straight_through`: whether the encoder gets the decoder's gradient unchanged. `soft`: whether latents in
    training are mixtures of codes, so that codes decode to them in eval mode alone.
    """
    with torch.random.fork_rng():
        for check in CHECKS:
            check(make)
        codes_decode_to_latents(make, soft)
        gradient_reaches_the_encoder(make, straight_through)


def codes_decode_to_latents(make: Make, soft: bool = False) -> None:
    """Integers alone give the quantized latents, and `encode` gives the codes of `forward`."""
    quantizer = initialized(make)
    latents = example_latents(quantizer)
    for training in (False,) if soft else (True, False):
        quantizer.train(training)
        for when in ("before", "after"):
            out = quantizer(latents)
            mode = f"{when} a step, in {'training' if training else 'eval'} mode"
            if quantizer.spec.discrete:
                same = torch.allclose(quantizer.lookup(out.codes), out.latents, 1e-5, 1e-5)
                assert same, f"lookup(codes) must be the latents of forward ({mode})"
            same = torch.equal(quantizer.encode(latents), out.codes)
            assert same, f"encode(latents) must give the codes of forward ({mode})"
            take_step(quantizer, example_latents(quantizer, seed=2))


def gradient_reaches_the_encoder(make: Make, straight_through: bool = True) -> None:
    """The gradient of the quantized latents reaches the encoder; straight through, unchanged and alone."""
    quantizer = initialized(make)
    latents = example_latents(quantizer).requires_grad_()
    weights = example_latents(quantizer, seed=5)
    quantized = quantizer(latents).latents
    assert quantized.requires_grad, "no gradient reaches the encoder"
    (quantized * weights).sum().backward()
    gradient = latents.grad
    assert gradient is not None and gradient.abs().sum() > 0, "no gradient reaches the encoder"
    if straight_through:
        assert torch.equal(gradient, weights), "the encoder's gradient is not the decoder's"
        moved = any(p.grad is not None and p.grad.abs().sum() > 0 for p in quantizer.parameters())
        assert not moved, "the decoder's gradient reaches the codebook"


def spec_is_truthful(make: Make) -> None:
    """Codes are int64 in the alphabets of `spec`; those of a flat one are entries of `codebook`."""
    quantizer = initialized(make)
    spec, latents = quantizer.spec, example_latents(quantizer)
    codes = quantizer.encode(latents)
    shape = latents.shape[:-1] + ((spec.levels,) if spec.levels > 1 else ())
    assert codes.dtype == torch.int64, f"codes must be int64, not {codes.dtype}"
    assert codes.shape == shape, f"codes have shape {tuple(codes.shape)}, not {tuple(shape)}"
    for size, level in zip(spec.sizes, codes.reshape(-1, spec.levels).unbind(1), strict=True):
        assert level.min() >= 0 and level.max() < size, f"codes outside their alphabet of {size}"
    if spec.order == "flat":
        codebook = quantizer.codebook
        assert len(codebook) == spec.alphabet, f"{len(codebook)} code vectors, not {spec.alphabet}"
        vectors = quantizer.lookup(torch.arange(spec.alphabet))
        assert torch.allclose(vectors, codebook, 1e-5, 1e-5), "lookup(k) must be codebook[k]"


def any_number_of_vectors(make: Make) -> None:
    """`encode` takes vectors in any number and arrangement, and codes each as it does alone."""
    quantizer = initialized(make).eval()
    latents = example_latents(quantizer, b=2, n=6)
    codes = quantizer.encode(latents)
    arranged = latents.reshape(2, 2, 3, -1)
    expected = codes.reshape(2, 2, 3, *codes.shape[2:])
    same = torch.equal(quantizer.encode(arranged), expected)
    assert same, "encode must take latents of any shape (..., d)"
    vectors = quantizer.lookup(expected)
    assert vectors.shape == arranged.shape, "lookup must take codes of any shape"
    one = torch.equal(quantizer.encode(latents[:1, :1])[0, 0], codes[0, 0])
    assert one, "a vector alone must get the code that it gets among others"


def losses_are_finite(make: Make) -> None:
    """Losses, gradients and state stay finite for zeros, for huge vectors and for a single one."""
    example = example_latents(make())
    for name, latents in {
        "zeros": torch.zeros_like(example[:1, :9]),
        "huge vectors": 1e4 * example,
        "a single vector": torch.ones_like(example[:1, :1]),
    }.items():
        quantizer = initialized(make)
        latents = latents.clone().requires_grad_()
        out = quantizer(latents)
        (out.loss + out.latents.sum()).backward()
        assert out.loss.isfinite(), f"the loss of {name} is not finite"
        gradient = latents.grad
        assert gradient is not None and gradient.isfinite().all(), f"the gradient of {name} is not"
        take_step(quantizer, latents.detach())
        state = quantizer.state_dict()
        assert all(value.isfinite().all() for value in state.values()), (
            f"the state after {name} is not"
        )


def autocast_changes_nothing(make: Make) -> None:
    """Under bfloat16 autocast the same vectors give the same codes, latents and losses, in float32."""
    quantizer = initialized(make)
    latents = example_latents(quantizer).bfloat16()
    torch.manual_seed(3)
    exact = quantizer(latents.float())
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = quantizer(latents)
        codes = quantizer.encode(latents)
    assert torch.equal(cast.codes, exact.codes), "autocast changes the codes of forward"
    assert torch.equal(codes, quantizer.encode(latents.float())), "autocast changes encode's codes"
    assert cast.latents.dtype == torch.float32, "quantized latents must be float32"
    assert torch.equal(cast.latents, exact.latents), "autocast changes the quantized latents"
    same = all(torch.equal(value, exact.losses[name]) for name, value in cast.losses.items())
    assert same, "autocast changes the losses"


def state_changes_in_after_step_alone(make: Make) -> None:
    """`forward`, `encode` and `accumulate` leave the state as it is, in training and in eval mode."""
    quantizer = initialized(make)
    before = copy.deepcopy(quantizer.state_dict())
    for training in (True, False):
        out = quantizer.train(training)(example_latents(quantizer, seed=4))
        quantizer.encode(example_latents(quantizer, seed=5))
        quantizer.accumulate(out.inputs, out.codes.flatten(0, 1))
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} must change in after_step alone"


def state_survives_saving(make: Make) -> None:
    """A new quantizer with the old one's weights goes on as the old one does."""
    quantizer = initialized(make)
    take_step(quantizer, example_latents(quantizer))
    twin = make()
    twin.load_state_dict(copy.deepcopy(quantizer.state_dict()))
    for seed in (2, 3):
        outs = []
        for one in (quantizer, twin):
            torch.manual_seed(seed)
            outs.append(take_step(one, example_latents(one, seed=seed)))
        assert torch.equal(outs[0].codes, outs[1].codes), "a reloaded quantizer gives other codes"
        same = torch.equal(outs[0].latents, outs[1].latents)
        assert same, "a reloaded quantizer gives other latents"
        for name, value in quantizer.state_dict().items():
            assert torch.equal(value, twin.state_dict()[name]), f"{name} differs after reloading"


CHECKS: tuple[Callable[[Make], None], ...] = (
    state_changes_in_after_step_alone,
    spec_is_truthful,
    any_number_of_vectors,
    losses_are_finite,
    autocast_changes_nothing,
    state_survives_saving,
)
"""The checks that are the same for all quantizers."""


def initialized(make: Make) -> Quantizer:
    """A quantizer after its first batch, always the same one."""
    torch.manual_seed(0)
    quantizer = make()
    quantizer.init_from(example_latents(quantizer))
    return quantizer


def example_latents(
    quantizer: Quantizer, b: int = 3, n: int = 50, seed: int = 1
) -> Float[Tensor, "b n d"]:
    """Vectors whose mean is not zero."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(b, n, quantizer.config.code_dim, generator=generator) + 1.5


def take_step(quantizer: Quantizer, latents: Float[Tensor, "b n d"]) -> Quantized:
    """What the trainer does to a quantizer in one step, its optimizer aside."""
    out = quantizer(latents)
    quantizer.accumulate(out.inputs, out.codes.flatten(0, 1))
    quantizer.after_step()
    return out
