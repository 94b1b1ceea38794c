"""The networks of every recipe run on devices that compute nothing: what there is to check and count without a GPU.

On PyTorch's fake tensors a GPU is a name: operations check their devices and shapes, and give tensors without
values. A tensor made on the wrong device, or a value that is read back, is found as it would be on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.experiment import Experiment, read_experiment
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.images.discriminator import PatchDiscriminator
from stage1_tokenizer.images.training import ImageTraining, TrainImageTokenizerConfig
from stage1_tokenizer.modality import ModalityTraining
from stage1_tokenizer.speech.discriminator import SpeechDiscriminator
from stage1_tokenizer.speech.losses import MelDistance
from stage1_tokenizer.speech.training import SpeechTraining, TrainSpeechTokenizerConfig
from stage2_prior import Prior
from stage2_prior.build import prior_architecture, prior_class
from stage2_prior.train_config import TrainPriorConfig

TrainConfig = TrainImageTokenizerConfig | TrainSpeechTokenizerConfig
CONFIGS = Path(__file__).parents[1] / "configs"
CLASSES = 10
"""Labels that a prior is traced with."""
SECONDS = 2.0
"""Length of the speech that a prior is traced on; a tokenizer's is that of its training crops."""


def recipes() -> dict[str, Experiment]:
    """The experiments of configs/, by their names."""
    return {path.stem: read_experiment(path) for path in sorted(CONFIGS.glob("*.yaml"))}


class Syncs(TorchDispatchMode):
    """Counts the values that are read back from a device, and gives 0 for them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += args[0].device.type != "cpu"
            return 0
        result = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and args[0].device.type != "cpu":
            self.count += result.device.type == "cpu"
        return result


@contextmanager
def fake_cuda() -> Iterator[Syncs]:
    """A context in which new tensors are fake and may be on `cuda`, where there is none, too."""
    kernels = torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, kernels[0], kernels[1], Syncs() as syncs:
        yield syncs


@contextmanager
def on_meta() -> Iterator[None]:
    """A context in which networks run, backward too, on the device `meta`.

    Autocast does not support `meta` and is off. A value that is read back, such as a mask by transformers, is 0.
    """
    off = patch.object(torch, "autocast", lambda *_, **__: nullcontext())
    asked = patch.object(torch, "is_autocast_enabled", lambda *_: False)
    with off, asked, Syncs():
        yield


def moved(module: Any, device: str) -> Any:
    """The module with its weights on a device, as `to` moves them, which does not know fake tensors."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                new = nn.Parameter(weight.to(device), requires_grad=weight.requires_grad)
                part._parameters[name] = new
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(device)
        if isinstance(part, nn.RNNBase):
            part._init_flat_weights()  # it has a list of its weights beside
    return module


def new_tokenizer(config: TrainConfig, device: str) -> Any:
    """The tokenizer of a recipe."""
    kind = SpeechTokenizer if isinstance(config, TrainSpeechTokenizerConfig) else ImageTokenizer
    return moved(kind(config.model), device)  # type: ignore[arg-type]


def new_items(config: TrainConfig, count: int, device: str) -> Tensor:
    """Images, or waveforms of the length of a crop in training."""
    model: Any = config.model
    if isinstance(config, TrainSpeechTokenizerConfig):
        samples = round(config.augment.crop_seconds * model.sample_rate)
        return torch.rand(count, samples, device=device)
    return torch.rand(count, model.in_channels, model.image_size, model.image_size, device=device)


class OfFullClips(nn.Module):
    """A tokenizer that is not told where clips end."""

    def __init__(self, tokenizer: nn.Module) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, items: Tensor, lengths: Tensor | None = None) -> Any:
        """The tokenizer's output."""
        return self.tokenizer(items)


class TracedTraining:
    """The losses of a recipe on its tokenizer: those of the training itself, but for LPIPS, which is a download."""

    def __init__(self, config: TrainConfig, device: str) -> None:
        loss: Any = config.loss
        self.discriminator: nn.Module | None = None
        self.kind: type[ModalityTraining]
        if isinstance(config, TrainSpeechTokenizerConfig):
            rate = config.model.sample_rate
            with unset_fake_temporarily():  # torchaudio looks at the filters that it made
                mel = MelDistance(rate, loss.mel)
            moved(mel, device)
            self.kind, self.own = SpeechTraining, SimpleNamespace(loss=loss, mel=mel)
            discriminator: Any = SpeechDiscriminator(loss.discriminator)
        else:
            self.kind, self.own = ImageTraining, SimpleNamespace(loss=loss, perceptual=None)
            shape = config.model.in_channels, loss.discriminator_width, loss.discriminator_layers
            discriminator = PatchDiscriminator(*shape)
        if loss.adversarial:
            self.discriminator = moved(discriminator, device)

    def losses(self, tokenizer: Any, items: Tensor) -> dict[str, Tensor]:
        """All losses of one step, the discriminator's too. Clips are full: the ends of others are a value to read."""
        lengths = torch.full((len(items),), items.shape[1], device=items.device)
        batch = {"images": items, "waveforms": items, "lengths": lengths}
        own: Any = self.own
        losses, fake, _ = self.kind.generator_losses(
            own, OfFullClips(tokenizer), batch, self.discriminator
        )
        if self.discriminator is not None:
            losses["discriminator"] = self.kind.discriminator_loss(
                own, self.discriminator, batch, fake
            )
        return losses


def new_prior(recipe: Experiment, device: str) -> Prior:
    """The prior of a recipe, of images or of so many seconds of speech, by label."""
    config: TrainPriorConfig = recipe.config("prior")
    model: Any = recipe.config("tokenizer").model
    tokenizer = new_tokenizer(recipe.config("tokenizer"), "meta")
    ends = hasattr(model, "sample_rate")
    positions = round(SECONDS * model.codes_per_second) if ends else model.grid[0] * model.grid[1]
    length = positions * tokenizer.quantizer.spec.levels
    architecture = prior_architecture(
        config,
        tokenizer.quantizer,
        length=length,
        condition="label",
        classes=CLASSES,
        max_codes=length if ends else None,
    )
    return moved(prior_class(architecture)(architecture), device)


def new_codes(prior: Prior, count: int, device: str) -> tuple[Tensor, Tensor]:
    """Conditions and codes of a batch."""
    codes = torch.zeros(count, prior.config.length, dtype=torch.int64, device=device)
    return torch.zeros(count, 1, dtype=torch.int64, device=device), codes
