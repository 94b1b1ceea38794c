"""One optimizer step of a tokenizer and its discriminator, over the parts of a batch."""

import torch
from torch import Tensor, nn

from common.optimizing import clipped_norm, nan_if_not_finite, step_and_clear
from common.stopwatch import part
from common.training import learning_rate, unsynchronised
from stage1_tokenizer.batches import Batch
from stage1_tokenizer.prepare import Training
from stage1_tokenizer.quantizers import Quantized, Quantizer


def optimize(
    run: Training, batch: Batch, step: int
) -> tuple[dict[str, Tensor], list[Quantized], Tensor]:
    """Steps tokenizer and active discriminator: losses, each part's `Quantized`, the tokenizer's gradient norm."""
    accelerator, modality = run.accelerator, run.modality
    adversary = modality.discriminator if step >= run.config.loss.adversarial_start else None
    if adversary is not None:
        adversary.requires_grad_(False)  # keeps the generator's gradient out of it
    losses, fakes, quantized = generator_gradients(run, batch, adversary)
    most, scaler = run.config.optim.grad_clip, accelerator.scaler
    norms = [clipped_norm(run.model, most, [run.optimizer.optimizer], scaler)]
    optimizers = [run.optimizer.optimizer]
    discriminator, its_optimizer = run.wrapped_discriminator, run.discriminator_optimizer
    if adversary is not None and discriminator is not None and its_optimizer is not None:
        adversary.requires_grad_(True)
        losses["discriminator"] = discriminator_gradients(run, batch, fakes, discriminator)
        norms.append(clipped_norm(discriminator, most, [its_optimizer.optimizer], scaler))
        optimizers.append(its_optimizer.optimizer)
    skip = run.guard.inspect(step, losses, norms, scaled=scaler is not None)
    scheduled = learning_rate(step, run.config.steps, run.config.optim)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if "scale" in group:
                group["lr"] = group["scale"] * scheduled
        optimizer.found_inf = skip  # type: ignore[attr-defined]
    step_and_clear(optimizers, scaler, skip)
    return losses, quantized, norms[0]


def generator_gradients(
    run: Training, batch: Batch, adversary: nn.Module | None
) -> tuple[dict[str, Tensor], list[Tensor], list[Quantized]]:
    """Gives the tokenizer the gradient of a batch's parts: their mean losses, reconstructions and codes."""
    parts = parts_of(batch, run.config.accumulation)
    losses, fakes, quantized = [], [], []
    for i, some in enumerate(parts):
        with unsynchronised(run.accelerator, run.model, last=i + 1 == len(parts)):
            with run.accelerator.autocast(), part("losses"):
                own, fake, codes = run.modality.generator_losses(run.model, some, adversary)
            backward(run, total(own) / len(parts))
        losses.append({name: loss.detach() for name, loss in own.items()})
        fakes.append(fake)
        quantized.append(codes)
    return mean_losses(losses), fakes, quantized


def discriminator_gradients(
    run: Training, batch: Batch, fakes: list[Tensor], discriminator: nn.Module
) -> Tensor:
    """Gives the discriminator the gradient of a batch's parts and their reconstructions: its mean loss."""
    losses = []
    for i, (some, fake) in enumerate(zip(parts_of(batch, len(fakes)), fakes, strict=True)):
        with unsynchronised(run.accelerator, discriminator, last=i + 1 == len(fakes)):
            with run.accelerator.autocast(), part("losses"):
                loss = run.modality.discriminator_loss(discriminator, some, fake)
            backward(run, loss / len(fakes))
        losses.append({"": loss.detach()})
    return mean_losses(losses)[""]


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """The batch, its tensors cut into so many equal parts."""
    if count == 1:
        return [batch]
    cut = {name: v.chunk(count) for name, v in batch.items() if isinstance(v, Tensor)}
    return [batch | {name: chunks[i] for name, chunks in cut.items()} for i in range(count)]


def mean_losses(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each loss over equal parts."""
    if len(parts) == 1:
        return parts[0]
    return {name: torch.stack([losses[name] for losses in parts]).mean(0) for name in parts[0]}


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of the generator's losses."""
    return torch.stack([v for k, v in losses.items() if k != "discriminator"]).sum()


def backward(run: Training, loss: Tensor) -> None:
    """Adds the loss's gradient to those of the weights."""
    with part("backward"):
        run.accelerator.backward(nan_if_not_finite(loss))


def update_codebook(quantizer: Quantizer, quantized: list[Quantized]) -> None:
    """The quantizer's own part of a step: averages and resets, from what was quantized in all parts of the batch."""
    for some in quantized:
        assert some.input_codes is not None
        quantizer.accumulate(some.inputs, some.input_codes)
    quantizer.after_step()
