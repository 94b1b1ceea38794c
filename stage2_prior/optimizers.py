"""The optimizers of a prior: AdamW for all of it, or Muon for the matrices of its transformer and AdamW for the rest."""

from typing import Literal

import torch

from common.training import OptimConfig, decay_groups, embeddings
from stage2_prior.model import Prior
from stage2_prior.muon import Muon

Kind = Literal["adamw", "muon"]


def new_optimizers(prior: Prior, kind: Kind, optim: OptimConfig) -> list[torch.optim.Optimizer]:
    """AdamW first, fused; then Muon, for `muon`. Both leave out a step whose `found_inf` is 1.

    Muon makes each step of a matrix orthogonal, of the size of AdamW's, so that one learning rate and one weight
    decay serve both. Embeddings and heads stay AdamW's.
    """
    matrices = matrices_of(prior) if kind == "muon" else {}
    groups = decay_groups(prior, optim.weight_decay, leave_out=matrices)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, optim.lr, optim.betas, fused=True)
    ]
    if matrices:
        optimizers.append(Muon(matrices.values(), optim.lr, optim.weight_decay))
    return optimizers


def matrices_of(prior: Prior) -> dict[str, torch.nn.Parameter]:
    """The weights of the transformers' linear maps, by their names in the prior."""
    looked_up = embeddings(prior)
    return {
        name: parameter
        for name, parameter in prior.named_parameters()
        if name.startswith(("body.", "depth.")) and parameter.ndim == 2 and name not in looked_up
    }
