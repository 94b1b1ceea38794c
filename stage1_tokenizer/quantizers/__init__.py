"""Quantizers: continuous latents to integer codes and back, all with one interface."""

from stage1_tokenizer.quantizers.affine import Affine, AffineConfig
from stage1_tokenizer.quantizers.base import CodeSpec, Quantized, Quantizer, check_codes
from stage1_tokenizer.quantizers.build import QuantizerConfig, build_quantizer
from stage1_tokenizer.quantizers.cvq import CVQ, CVQConfig
from stage1_tokenizer.quantizers.ema import EMA, EMAConfig
from stage1_tokenizer.quantizers.fc import FC, FCConfig
from stage1_tokenizer.quantizers.lc import LC, LCConfig
from stage1_tokenizer.quantizers.qinco import QINCo, QINCoConfig
from stage1_tokenizer.quantizers.residual import RQ, RQConfig
from stage1_tokenizer.quantizers.scvae import SCVAE, SCVAEConfig
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.vq import VQ, VQConfig

__all__ = [
    "CVQ",
    "EMA",
    "FC",
    "LC",
    "RQ",
    "SCVAE",
    "VQ",
    "Affine",
    "AffineConfig",
    "CVQConfig",
    "CodeSpec",
    "EMAConfig",
    "FCConfig",
    "LCConfig",
    "QINCo",
    "QINCoConfig",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "RQConfig",
    "SCVAEConfig",
    "SimVQ",
    "SimVQConfig",
    "VQConfig",
    "build_quantizer",
    "check_codes",
]
