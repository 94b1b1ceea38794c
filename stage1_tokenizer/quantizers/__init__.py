"""Quantizers: continuous latents to integer codes and back, all with one interface."""

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer, check_codes
from stage1_tokenizer.quantizers.build import QuantizerConfig, build_quantizer
from stage1_tokenizer.quantizers.continuous import Continuous, ContinuousConfig
from stage1_tokenizer.quantizers.fsq import FSQ, FSQConfig
from stage1_tokenizer.quantizers.ibq import IBQ, IBQConfig
from stage1_tokenizer.quantizers.lfq import LFQ, LFQConfig
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.vq import VQ, VQConfig

__all__ = [
    "FSQ",
    "IBQ",
    "LFQ",
    "VQ",
    "CodeSpec",
    "Continuous",
    "ContinuousConfig",
    "FSQConfig",
    "IBQConfig",
    "LFQConfig",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "SimVQ",
    "SimVQConfig",
    "VQConfig",
    "build_quantizer",
    "check_codes",
]
