"""HQA's layer: stochastic codes of unit precision, kept near uniform (Williams et al. 2020, arXiv 2002.08111)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.bounds import Count, NonNegative
from common.processes import sum_over_processes
from common.seeding import generator_at
from stage1_tokenizer.quantizers.assignments import StepCounter
from stage1_tokenizer.quantizers.base import Quantized, Quantizer, keywords_of
from stage1_tokenizer.quantizers.codebook_init import random_codebook
from stage1_tokenizer.quantizers.soft_assignment import rename_old_counter, soft_assignment

HOTTEST, COLDEST = 0.667, 0.001
"""The temperature at the first and at the last step of its annealing."""
EVERY = 20
"""Steps from one reset to the next, over which use is counted."""
RARE = 0.03
"""A code used less than this part of the most used one's use is reset."""
APART = 0.01
"""Standard deviation of a reset code around the most used one."""


@dataclass(frozen=True, kw_only=True)
class HQAConfig:
    """The codebook, and the weights of its two losses."""

    method: Literal["hqa"] = "hqa"
    codebook_size: Count = 256
    """Number of codes, K. One is reset at a time, which can't keep up with thousands."""
    code_dim: Count = 64
    """Dimension of one code vector, d."""
    weight: NonNegative = 1.0
    """Weight of both losses in the total loss."""
    uniform_weight: NonNegative = 1e-3
    """Weight of the divergence of a vector's code probabilities from uniform ones."""
    beta: NonNegative = 1e-3
    """Weight of the commitment loss, the expected squared distance to the code, which trains encoder and codes."""
    values: Count = 192
    """Data values per position, by which both losses are divided: 3 x 8 x 8 for colour images at a factor of 8."""
    annealing_steps: Count = 10_000
    """Steps in which the mixture's temperature falls linearly from 0.667 to 0.001 (all steps, in the paper)."""


class HQA(Quantizer):
    """One layer of HQA: vectors to mixtures of codes sampled with p(k | z) proportional to exp(-|z - c_k|^2).

    In eval mode the nearest code is chosen. Unlike in the paper, the layer is used alone, not in a stack of
    autoencoders that halve the grid, and the optimizer is the tokenizer's.
    """

    config_class = HQAConfig
    config: HQAConfig
    usage: Tensor
    nudges: Tensor

    @keywords_of(HQAConfig)
    def __init__(self, *given: HQAConfig, **options: Any) -> None:
        super().__init__(*given, **options)
        config = self.config
        self.table = nn.Parameter(random_codebook(config.codebook_size, config.code_dim))
        self.counter = StepCounter()
        self.register_load_state_dict_pre_hook(rename_old_counter)
        self.register_buffer("usage", torch.zeros(config.codebook_size, dtype=torch.int64))
        # no buffer, of which DDP would send the first process's to all
        self._codes: list[Tensor] = []
        # sampled once for each code: alike on all processes, without asking the device for the step
        noise = torch.randn(self.table.shape, generator=generator_at(0, 0))
        self.register_buffer("nudges", APART * noise, persistent=False)

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """Falls linearly with the step."""
        done = (self.counter.steps / self.config.annealing_steps).clamp_max(1)
        return HOTTEST + (COLDEST - HOTTEST) * done

    def quantize(self, latents: Float[Tensor, "b n d"]) -> Quantized:
        """Codes, mixtures (in eval mode the codes' vectors) and losses: KL(p || uniform), expected squared distance."""
        config = self.config
        codes, flat = self.encode(latents), latents.flatten(0, 1)
        soft = soft_assignment(flat, self.codebook, flat.new_ones(()), self.temperature)
        mixed = soft.mixed if self.training else self.lookup(codes).flatten(0, 1)
        factor = config.weight / config.values / len(flat)
        losses = {
            "uniform": factor * (config.uniform_weight * soft.divergence),
            "commitment": factor * (config.beta * soft.distance),
        }
        return Quantized(mixed.view_as(latents), codes, losses, flat.detach())

    @torch.no_grad()
    def accumulate(self, inputs: Float[Tensor, "m d"], codes: Int[Tensor, " m"]) -> None:
        """Takes in the codes."""
        self._codes.append(codes)

    @torch.no_grad()
    def after_step(self) -> None:
        """Every 20 steps, puts the least used code beside the most used one, if it is rarely used."""
        self.counter.advance()
        seen = torch.zeros_like(self.usage)
        for codes in self._codes:
            seen.scatter_add_(0, codes, torch.ones_like(codes))
        self._codes.clear()
        self.usage += sum_over_processes(seen)
        least, most = self.usage.argmin(keepdim=True), self.usage.argmax(keepdim=True)
        due = self.counter.steps % EVERY == 0
        rare = due & (self.usage[least] < RARE * self.usage[most])
        beside = self.table[most] + self.nudges[least]
        self.table.index_copy_(0, least, torch.where(rare[:, None], beside, self.table[least]))
        self.usage *= ~due
