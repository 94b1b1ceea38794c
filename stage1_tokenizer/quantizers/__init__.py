"""Quantizers: continuous latents to integer codes and back, all with one interface."""

from dataclasses import asdict

from common.config import import_object
from stage1_tokenizer.quantizers.affine import Affine, AffineConfig
from stage1_tokenizer.quantizers.arrangement import PADDING
from stage1_tokenizer.quantizers.base import CustomQuantizerConfig, Quantized, Quantizer
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
from stage1_tokenizer.quantizers.residual_simvq import ResidualSimVQ, ResidualSimVQConfig
from stage1_tokenizer.quantizers.rq import RQ, RQConfig
from stage1_tokenizer.quantizers.scvae import SCVAE, SCVAEConfig
from stage1_tokenizer.quantizers.simvq import SimVQ, SimVQConfig
from stage1_tokenizer.quantizers.spec import CodeSpec, check_codes, check_form
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
    | ResidualSimVQConfig
    | QINCoConfig
    | SCVAEConfig
    | FSQConfig
    | LFQConfig
    | IBQConfig
    | HQAConfig
    | SQVAEConfig
    | WAEConfig
    | ContinuousConfig
    | CustomQuantizerConfig
)
"""What `model.quantizer` may be; `method` says which. Each has `code_dim`, the encoder's output channels."""
METHODS: tuple[type[Quantizer], ...] = (
    *(SimVQ, VQ, EMA, CVQ, Affine, FC, LC, RQ, ResidualSimVQ),
    *(QINCo, SCVAE, FSQ, LFQ, IBQ, HQA, SQVAE, WAE),
    Continuous,
)


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The module that the config describes. Raises ValueError for a config of no quantizer."""
    if isinstance(config, CustomQuantizerConfig):
        return import_object(config.method)(**asdict(config))
    for method in METHODS:
        if isinstance(config, method.config_class):
            return method(config)
    raise ValueError(
        f"{type(config).__name__} is no quantizer's config: a config of your own must be a subclass of "
        "CustomQuantizerConfig, with the import path of its quantizer as `method`"
    )
