"""The quantizer of a config, by its key `method`."""

from dataclasses import asdict

from stage1_tokenizer.quantizers.affine import Affine, AffineConfig
from stage1_tokenizer.quantizers.base import Quantizer
from stage1_tokenizer.quantizers.continuous import Continuous, ContinuousConfig
from stage1_tokenizer.quantizers.cvq import CVQ, CVQConfig
from stage1_tokenizer.quantizers.ema import EMA, EMAConfig
from stage1_tokenizer.quantizers.fc import FC, FCConfig
from stage1_tokenizer.quantizers.fsq import FSQ, FSQConfig
from stage1_tokenizer.quantizers.hqa import HQA, HQAConfig
from stage1_tokenizer.quantizers.ibq import IBQ, IBQConfig
from stage1_tokenizer.quantizers.lc import LC, LCConfig
from stage1_tokenizer.quantizers.lfq import LFQ, LFQConfig
from stage1_tokenizer.quantizers.qinco import QINCo, QINCoConfig
from stage1_tokenizer.quantizers.residual import RQ, RQConfig
from stage1_tokenizer.quantizers.scvae import SCVAE, SCVAEConfig
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.sqvae import SQVAE, SQVAEConfig
from stage1_tokenizer.quantizers.vq import VQ, VQConfig
from stage1_tokenizer.quantizers.wae import WAE, WAEConfig

QuantizerConfig = (
    SimVQConfig
    | VQConfig
    | EMAConfig
    | CVQConfig
    | AffineConfig
    | FCConfig
    | LCConfig
    | RQConfig
    | QINCoConfig
    | SCVAEConfig
    | FSQConfig
    | LFQConfig
    | IBQConfig
    | HQAConfig
    | SQVAEConfig
    | WAEConfig
    | ContinuousConfig
)
"""What `model.quantizer` may be; `method` says which. Each has `code_dim`, the encoder's output channels."""


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The module that the config describes."""
    options = asdict(config)
    match config:
        case SimVQConfig():
            return SimVQ(**options)
        case VQConfig():
            return VQ(**options)
        case RQConfig():
            return RQ(**options)
        case QINCoConfig():
            return QINCo(**options)
        case SCVAEConfig():
            return SCVAE(**options)
        case EMAConfig():
            return EMA(**options)
        case CVQConfig():
            return CVQ(**options)
        case AffineConfig():
            return Affine(**options)
        case FCConfig():
            return FC(**options)
        case LCConfig():
            return LC(**options)
        case FSQConfig():
            return FSQ(**options)
        case LFQConfig():
            return LFQ(**options)
        case IBQConfig():
            return IBQ(**options)
        case HQAConfig():
            return HQA(**options)
        case SQVAEConfig():
            return SQVAE(**options)
        case WAEConfig():
            return WAE(**options)
        case ContinuousConfig():
            return Continuous(**options)
