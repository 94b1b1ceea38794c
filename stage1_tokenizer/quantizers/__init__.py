"""Quantizers: continuous latents to integer codes and back, all with one interface."""

from stage1_tokenizer.quantizers.affine import Affine, AffineConfig
from stage1_tokenizer.quantizers.arrangement import PADDING
from stage1_tokenizer.quantizers.base import (
    CodeSpec,
    CustomQuantizerConfig,
    Quantized,
    Quantizer,
    check_codes,
    check_form,
)
from stage1_tokenizer.quantizers.build import QuantizerConfig, build_quantizer
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
from stage1_tokenizer.quantizers.sqvae import SQVAE, SQVAEConfig
from stage1_tokenizer.quantizers.vq import VQ, VQConfig
from stage1_tokenizer.quantizers.wae import WAE, WAEConfig
