"""Speech codecs with new weights: ours, and EnCodec, DAC and Mimi of transformers, behind two functions each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    DacConfig,
    DacModel,
    EncodecConfig,
    EncodecModel,
    MimiConfig,
    MimiModel,
)

from stage1_tokenizer import SpeechTokenizer, SpeechTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec at work on one waveform of a batch."""

    network: nn.Module
    sample_rate: int
    bits_per_second: float
    encode: Callable[[Float[Tensor, "1 t"]], Any]
    """What `decode` takes."""
    decode: Callable[[Any], Float[Tensor, "1 t"]]

    @property
    def parameters(self) -> int:
        """Of the whole network."""
        return sum(weights.numel() for weights in self.network.parameters())


def codec(name: str, thinner: int) -> Codec:
    """The codec of one of NAMES, its channels divided by `thinner`."""
    torch.manual_seed(0)
    return NAMES[name](thinner)


def simvq(thinner: int) -> Codec:
    """Ours, as configs/librispeech.yaml has it: one of 8,192 codes 50 times per second."""
    tokenizer = SpeechTokenizer(
        SpeechTokenizerConfig(
            sample_rate=16_000,
            width=32 // thinner,
            decoder_width=768 // thinner,
            decoder_hidden=2304 // thinner,
            quantizer=SimVQConfig(codebook_size=8192, code_dim=64),
        )
    ).eval()
    bits = tokenizer.quantizer.spec.bits * tokenizer.config.codes_per_second
    return Codec(
        network=tokenizer,
        sample_rate=16_000,
        bits_per_second=bits,
        encode=tokenizer.encode,
        decode=tokenizer.decode,
    )


def encodec(thinner: int) -> Codec:
    """EnCodec at 24 kHz, with its smallest bandwidth: two of 1,024 codes 75 times per second."""
    model = EncodecModel(EncodecConfig(num_filters=32 // thinner)).eval()

    def encode(waveform: Tensor) -> Any:
        return model.encode(waveform[:, None], bandwidth=1.5)

    def decode(encoded: Any) -> Tensor:
        return model.decode(encoded.audio_codes, encoded.audio_scales).audio_values[:, 0]

    return Codec(
        network=model, sample_rate=24_000, bits_per_second=1500, encode=encode, decode=decode
    )


def dac(thinner: int) -> Codec:
    """DAC at 16 kHz, with the hop and the nine codebooks of transformers' defaults."""
    config = DacConfig(encoder_hidden_size=64 // thinner, decoder_hidden_size=1536 // thinner)
    model = DacModel(config).eval()
    hop = config.hop_length

    def encode(waveform: Tensor) -> Tensor:
        whole = F.pad(waveform, (0, -waveform.shape[1] % hop))  # as its feature extractor does
        return model.encode(whole[:, None]).audio_codes

    def decode(codes: Tensor) -> Tensor:
        return model.decode(audio_codes=codes).audio_values

    bits = config.n_codebooks * 10 * 16_000 / hop
    return Codec(
        network=model, sample_rate=16_000, bits_per_second=bits, encode=encode, decode=decode
    )


def mimi(thinner: int) -> Codec:
    """Mimi at 24 kHz, with the eight codebooks that its authors use: of 2,048 codes, 12.5 times per second."""
    model = MimiModel(
        MimiConfig(
            num_filters=64 // thinner,
            hidden_size=512 // thinner,
            upsample_groups=512 // thinner,
            intermediate_size=2048 // thinner,
        )
    ).eval()

    def encode(waveform: Tensor) -> Tensor:
        return model.encode(waveform[:, None], num_quantizers=8).audio_codes

    def decode(codes: Tensor) -> Tensor:
        return model.decode(codes).audio_values[:, 0]

    bits = 8 * 11 * 12.5
    return Codec(
        network=model, sample_rate=24_000, bits_per_second=bits, encode=encode, decode=decode
    )


NAMES = {"simvq": simvq, "encodec": encodec, "dac": dac, "mimi": mimi}
