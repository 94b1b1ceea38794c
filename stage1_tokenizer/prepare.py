"""What a tokenizer's training is made of: data, networks, optimizers, averages and counters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from common.checkpoints import Stateful, list_checkpoints
from common.early_stopping import Best
from common.files import check_seal
from common.gradient_checkpointing import recompute
from common.hub import load_weights
from common.init_from import source_folder, start_from
from common.training import Average, StepGuard, compiled, decay_groups
from stage1_tokenizer.batches import BadItems, bad_items_of
from stage1_tokenizer.codebook_usage import CodebookUse
from stage1_tokenizer.config import TrainTokenizerConfig
from stage1_tokenizer.modality import MODALITIES, ModalityTraining
from stage1_tokenizer.tokenizer import Tokenizer

DISCRIMINATOR = "discriminator"
"""The folder beside `model/` in which a run leaves its discriminator."""
TRAINING_KEYS = (
    *("weight", "beta", "start", "rescale", "rotation", "estimator", "gram_penalty", "w2_penalty"),
    *("decay", "reset", "reset_share"),
    *("codebook_weight", "contrastive_weight", "entropy_weight", "uniform_weight"),
    *("nu", "inner_steps", "inner_rate", "replace_after", "anchor", "most_vectors"),
    *("annealing", "annealing_steps", "group_bits", "temperature"),
)
"""Keys of quantizers that training alone reads."""
MAY_DIFFER = ("image_size", *(f"quantizer.{key}" for key in TRAINING_KEYS))
"""Keys of a saved tokenizer that may have other values where it is trained further."""


@dataclass
class Training:
    """Everything that one step touches."""

    config: TrainTokenizerConfig
    accelerator: Accelerator
    modality: ModalityTraining
    """What the modality brings: data, networks as they are saved, losses, evaluation."""
    model: nn.Module
    """The tokenizer as the accelerator wraps it for several processes, and torch.compile."""
    optimizer: AcceleratedOptimizer
    wrapped_discriminator: nn.Module | None
    """The discriminator, wrapped too. The generator's loss uses it unwrapped, since it is frozen there."""
    discriminator_optimizer: AcceleratedOptimizer | None
    average: Average
    use: CodebookUse
    guard: StepGuard
    bad_items: BadItems
    best: Best
    """Of the held-out evaluations, where patience is on."""
    constant: dict[str, float]
    """What the best constant output reaches on the held-out items that are evaluated."""

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        parts: dict[str, Stateful] = {
            "model": self.modality.tokenizer,
            "optimizer": self.optimizer.optimizer,
            "average": self.average,
            "use": self.use,
            "guard": self.guard,
            "bad_items": self.bad_items,
            "best": self.best,
        }
        if self.modality.discriminator is not None and self.discriminator_optimizer is not None:
            parts["discriminator"] = self.modality.discriminator
            parts["discriminator_optimizer"] = self.discriminator_optimizer.optimizer
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        return parts


def prepare(config: TrainTokenizerConfig, accelerator: Accelerator) -> Training:
    """Data, networks and optimizers, on their device and wrapped for several processes."""
    torch.manual_seed(config.seed)
    modality = MODALITIES[config.modality].training(config, accelerator.device)
    start_weights(config, modality)
    tokenizer, betas = modality.tokenizer, config.optim.betas
    for network in (tokenizer.encoder, tokenizer.decoder) if config.checkpointing else ():
        recompute(network)
    groups = parameter_groups(config, tokenizer)
    optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=betas, fused=True)
    model, optimizer = accelerator.prepare(tokenizer, optimizer)
    discriminator = discriminator_optimizer = None
    if modality.discriminator is not None:
        lr = config.loss.discriminator_lr
        weights = {"params": modality.discriminator.parameters(), "scale": lr / config.optim.lr}
        adam = torch.optim.AdamW([weights], lr=lr, betas=betas, weight_decay=0.0, fused=True)
        discriminator, discriminator_optimizer = accelerator.prepare(modality.discriminator, adam)
    return Training(
        config=config,
        accelerator=accelerator,
        modality=modality,
        model=compiled(model) if config.compile else model,
        optimizer=optimizer,
        wrapped_discriminator=discriminator,
        discriminator_optimizer=discriminator_optimizer,
        average=Average(tokenizer, config.ema_decay),
        use=CodebookUse(tokenizer.quantizer.spec, accelerator.device),
        guard=StepGuard(accelerator.device, config.max_skipped_steps, config.optim.grad_clip),
        bad_items=bad_items_of(modality.train_set),
        best=Best(),
        constant=modality.evaluate_constant(),
    )


def parameter_groups(config: TrainTokenizerConfig, tokenizer: nn.Module) -> list[dict[str, Any]]:
    """The optimizer's groups: the networks' follow the learning rate schedule, the quantizer's keep a constant rate.

    A group with the key `scale` gets the scheduled rate times `scale`; one without keeps its `lr`.
    """
    quantizer = {
        name: parameter
        for name, parameter in tokenizer.named_parameters()
        if name.startswith("quantizer.") and parameter.requires_grad
    }
    own = [
        {
            "params": [parameter],
            "lr": config.basis_lr if name == "quantizer.basis" else config.quantizer_lr,
            "weight_decay": 0.0,
        }
        for name, parameter in quantizer.items()
    ]
    decayed = decay_groups(tokenizer, config.optim.weight_decay, leave_out=quantizer)
    return [group | {"scale": 1.0} for group in decayed] + own


def start_weights(config: TrainTokenizerConfig, modality: ModalityTraining) -> None:
    """Gives a new run the weights that `init_from` names, and freezes what `freeze` names.

    A run that has checkpoints goes on from those. Raises ValueError for weights that do not fit.
    """
    if config.init_from is not None and not list_checkpoints(config.run_dir):
        folder = source_folder(config.init_from, "tokenizer")
        start_from(modality.tokenizer, folder, MAY_DIFFER)
        if "codebook" not in config.freeze:
            modality.tokenizer.quantizer.start_from_table()
        beside = folder.parent / DISCRIMINATOR
        if modality.discriminator is not None and beside.is_dir():
            start_discriminator(modality.discriminator, beside)
    parts = {"encoder": modality.tokenizer.encoder, "codebook": modality.tokenizer.quantizer}
    for name in config.freeze:
        parts[name].requires_grad_(False)


def start_discriminator(discriminator: nn.Module, folder: Path) -> None:
    """Gives the discriminator the saved weights. Raises ValueError where they are another's."""
    check_seal(folder)
    weights, own = load_weights(folder / "model.safetensors"), discriminator.state_dict()
    shapes = [{name: tensor.shape for name, tensor in each.items()} for each in (weights, own)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{folder} is a discriminator of another architecture: set the keys loss.discriminator* as they were "
            "there, or remove it"
        )
    discriminator.load_state_dict(weights)


def set_training(config: TrainTokenizerConfig, tokenizer: Tokenizer) -> None:
    """Training mode; with encoder and codebook frozen the quantizer stays in eval mode, as in decoding from codes."""
    tokenizer.train()
    if {*config.freeze} == {"encoder", "codebook"}:
        tokenizer.quantizer.eval()
