"""Quantizers: continuous latents to integer codes and back, all with one interface."""

from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer, check_codes
from stage1_tokenizer.quantizers.build import QuantizerConfig, build_quantizer
from stage1_tokenizer.quantizers.qinco import QINCo, QINCoConfig
from stage1_tokenizer.quantizers.scvae import SCVAE, SCVAEConfig
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.vq import VQ, VQConfig

__all__ = [
    "SCVAE",
    "VQ",
    "CodeSpec",
    "QINCo",
    "QINCoConfig",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "SCVAEConfig",
    "SimVQ",
    "SimVQConfig",
    "VQConfig",
    "build_quantizer",
    "check_codes",
]
