"""Quantizers: continuous latents to integer codes and back, all with one interface."""

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig

__all__ = ["CodeSpec", "Quantized", "SimVQ", "SimVQConfig"]
