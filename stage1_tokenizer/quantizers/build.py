"""The quantizer of a config, by its key `method`."""

from dataclasses import asdict

from stage1_tokenizer.quantizers.base import Quantizer
from stage1_tokenizer.quantizers.qinco import QINCo, QINCoConfig
from stage1_tokenizer.quantizers.scvae import SCVAE, SCVAEConfig
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.vq import VQ, VQConfig

QuantizerConfig = SimVQConfig | VQConfig | QINCoConfig | SCVAEConfig
"""What `model.quantizer` may be; `method` says which. Each has `code_dim`, the encoder's output channels."""


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The module that the config describes."""
    options = asdict(config)
    match config:
        case SimVQConfig():
            return SimVQ(**options)
        case VQConfig():
            return VQ(**options)
        case QINCoConfig():
            return QINCo(**options)
        case SCVAEConfig():
            return SCVAE(**options)
