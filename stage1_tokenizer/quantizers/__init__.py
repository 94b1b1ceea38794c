"""Quantizers: continuous latents to integer codes and back, all with one interface."""

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer, check_codes
from stage1_tokenizer.quantizers.build import QuantizerConfig, build_quantizer
from stage1_tokenizer.quantizers.continuous import Continuous, ContinuousConfig
from stage1_tokenizer.quantizers.fsq import FSQ, FSQConfig
from stage1_tokenizer.quantizers.hqa import HQA, HQAConfig
from stage1_tokenizer.quantizers.ibq import IBQ, IBQConfig
from stage1_tokenizer.quantizers.lfq import LFQ, LFQConfig
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.sqvae import SQVAE, SQVAEConfig
from stage1_tokenizer.quantizers.vq import VQ, VQConfig
from stage1_tokenizer.quantizers.wae import WAE, WAEConfig

__all__ = [
    "FSQ",
    "HQA",
    "IBQ",
    "LFQ",
    "SQVAE",
    "VQ",
    "WAE",
    "CodeSpec",
    "Continuous",
    "ContinuousConfig",
    "FSQConfig",
    "HQAConfig",
    "IBQConfig",
    "LFQConfig",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "SQVAEConfig",
    "SimVQ",
    "SimVQConfig",
    "VQConfig",
    "WAEConfig",
    "build_quantizer",
    "check_codes",
]
