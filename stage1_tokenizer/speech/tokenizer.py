"""SpeechTokenizer: waveforms to sequences of codes, and codes to waveforms."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.bounds import Count
from stage1_tokenizer.quantizers import (
    PADDING,
    Quantized,
    QuantizerConfig,
    SimVQConfig,
    build_quantizer,
    check_codes,
    check_form,
)
from stage1_tokenizer.speech.decoder import GROUPS, Decoder
from stage1_tokenizer.speech.net import Encoder, Lengths, inside, masked
from stage1_tokenizer.speech.preprocess import preprocess_clip
from stage1_tokenizer.tokenizer import Tokenizer

CHUNK = 1024
"""Codes in work at a time when a clip is encoded or decoded: 14 s at 75 codes per second."""


@dataclass(frozen=True, kw_only=True)
class SpeechTokenizerConfig:
    """The architecture: saved beside the weights, needed to rebuild the model."""

    sample_rate: Count = 24_000
    """Samples per second; it is trained for one rate."""
    ratios: tuple[Count, ...] = (8, 5, 4, 2)
    """Downsampling factors, largest first, whose product is the samples per code (24 kHz / 320 = 75 codes per second).
    The encoder starts with the last."""
    width: Count = 32
    """Channels of the encoder at full rate, even; each ratio doubles them."""
    lstm_layers: Count = 2
    """Layers of the LSTM at the end of the encoder."""
    causal: bool = True
    """Pad the encoder's convolutions on the left only. The decoder is never causal."""
    decoder_width: Count = 768
    """Channels of the decoder, a multiple of 32."""
    decoder_hidden: Count = 2304
    """Channels inside the decoder's ConvNeXt blocks."""
    decoder_layers: Count = 12
    """ConvNeXt blocks of the decoder."""
    decoder_window: Count = 3000
    """Codes that the decoder's attention sees at once, even (40 s at 75 codes per second); a longer
    clip is seen through overlapping windows."""
    n_fft: Count = 1280
    """Samples of one frame of the inverse STFT, a multiple of the hop: 4 hops is usual."""
    quantizer: QuantizerConfig = field(
        default_factory=lambda: SimVQConfig(codebook_size=4096, code_dim=512)
    )
    """The codebook: the keys of the quantizer that `quantizer.method` names."""

    def __post_init__(self) -> None:
        if not self.ratios:
            raise ValueError("ratios=() must have at least one factor: set model.ratios")
        if self.n_fft % self.hop or self.n_fft < 2 * self.hop or self.n_fft % 2:
            raise ValueError(
                f"n_fft={self.n_fft} must be even and a multiple of the hop {self.hop}, the product "
                f"of ratios, but not the hop itself: set model.n_fft, to {4 * self.hop} for instance"
            )
        if self.decoder_width % GROUPS:
            raise ValueError(
                f"decoder_width={self.decoder_width} must be a multiple of {GROUPS}: "
                "set model.decoder_width"
            )
        if self.width % 2 or self.decoder_window % 2:
            raise ValueError(
                f"width={self.width} and decoder_window={self.decoder_window} must be even: set "
                "model.width or model.decoder_window"
            )

    @property
    def hop(self) -> int:
        """Samples that one code stands for."""
        return math.prod(self.ratios)

    @property
    def codes_per_second(self) -> float:
        return self.sample_rate / self.hop


class SpeechTokenizer(Tokenizer):
    """An autoencoder for speech with a quantizer in the middle. Waveforms are in [-1, 1].

    In a batch of unequal lengths, `lengths` says where each item ends, and every item comes out as
    it does alone. A clip that ends within a hop is filled up with zeros.

        >>> small = {"width": 4, "decoder_width": 32, "decoder_hidden": 32, "decoder_layers": 1}
        >>> quantizer = SimVQConfig(codebook_size=64, code_dim=8)
        >>> config = SpeechTokenizerConfig(sample_rate=16_000, quantizer=quantizer, **small)
        >>> tokenizer = SpeechTokenizer(config).eval()  # or SpeechTokenizer.from_pretrained("model")
        >>> codes = tokenizer.encode(torch.zeros(1, 3200))
        >>> codes.shape, tokenizer.decode(codes).shape
        (torch.Size([1, 10]), torch.Size([1, 3200]))
        >>> stereo = torch.zeros(44_100, 2).numpy()  # or a path, whose file knows its rate
        >>> tokenizer.encode(tokenizer.preprocess(stereo, sample_rate=44_100)).shape
        torch.Size([1, 50])
    """

    config_class = SpeechTokenizerConfig
    not_compiled = ("_quantized",)
    """For the shape of what is inside depends on lengths."""
    config: SpeechTokenizerConfig

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__(config)
        code_dim = config.quantizer.code_dim
        self.encoder = Encoder(
            config.width, config.ratios, config.lstm_layers, code_dim, config.causal
        )
        self.quantizer = build_quantizer(config.quantizer)
        self.decoder = Decoder(
            code_dim,
            config.decoder_width,
            config.decoder_hidden,
            config.decoder_layers,
            config.decoder_window,
            config.n_fft,
            config.hop,
        )

    def forward(
        self, waveform: Float[Tensor, "b t"], lengths: Lengths = None
    ) -> tuple[Float[Tensor, "b t"], Quantized]:
        """The reconstruction, and the quantizer's output; `lengths` is in samples.

        Past an item's end samples and latents are zero, codes are -1, and no loss is taken.
        """
        return self._quantized_and_decoded(
            self.latents(waveform, lengths), waveform.shape[1], lengths
        )

    def counts(self, lengths: Lengths) -> Lengths:
        """How many codes items of so many samples have."""
        return (
            None if lengths is None else (lengths.long() + self.config.hop - 1) // self.config.hop
        )

    def latents(
        self, waveform: Float[Tensor, "b t"], lengths: Lengths = None, chunk: int | None = None
    ) -> Float[Tensor, "b d n"]:
        """The encoder's output, before quantization, n = ceil(t / hop).

        Raises ValueError for a batch without samples.
        """
        size = waveform.shape[1]
        if waveform.numel() == 0:
            raise ValueError(
                f"a waveform of shape {tuple(waveform.shape)} has no samples to encode"
            )
        if lengths is not None:
            waveform = waveform.masked_fill(~inside(lengths, size), 0)
        padded = F.pad(waveform, (0, -size % self.config.hop))
        return self.encoder(padded, self.counts(lengths), chunk)

    @torch.no_grad()
    def encode(
        self, waveform: Any, lengths: Lengths = None, chunk: int = CHUNK
    ) -> Int[Tensor, "b n *levels"]:
        """The codes of each clip, -1 past an item's end; `lengths` is in samples.

        `waveform` is a float tensor (b, t) in [-1, 1], or anything that `preprocess` takes. Computes in float32,
        also under autocast; raises ValueError for weights in half precision.

        A clip has any length, and is encoded in pieces of `chunk` codes, which changes nothing but rounding.
        Raises ValueError for a batch without samples, and for lengths that do not fit it.
        """
        if not (
            isinstance(waveform, Tensor) and waveform.ndim == 2 and waveform.is_floating_point()
        ):
            waveform = self.preprocess(waveform)
        _check_lengths(lengths, waveform)
        with self.exactly():
            latents = self.latents(waveform.to(self.dtype), lengths, chunk)
            codes = self.quantizer.encode(rearrange(latents, "b d n -> b n d"))
        counts = self.counts(lengths)
        if counts is None:
            return codes
        return codes.masked_fill(~beside(inside(counts, codes.shape[1]), codes), PADDING)

    def preprocess(
        self, clip: Any, sample_rate: int | None = None, *, channels_first: bool | None = None
    ) -> Float[Tensor, "1 t"]:
        """The clip, mixed down and resampled to the tokenizer's rate, in [-1, 1] (a file may overshoot), on its device.

        `clip` is a path, or samples (t,) or with channels: int16, or floats in [-1, 1], at `sample_rate`, which
        is the tokenizer's unless given. Channels come last in an array and first in a tensor, unless
        `channels_first` says otherwise. Raises ValueError, in one sentence, for what does not fit.
        """
        ready = preprocess_clip(clip, self.config.sample_rate, sample_rate, channels_first)
        return ready.to(self.device)

    @torch.no_grad()
    def decode(
        self, codes: Int[Tensor, "b n *levels"], lengths: Lengths = None, chunk: int = CHUNK
    ) -> Float[Tensor, "b t"]:
        """The waveforms that integers alone stand for, n x hop samples; `lengths` is in codes.

        Their range is [-1, 1] but for a little overshoot. Past an item's end codes are not read,
        and samples are zero. Raises ValueError for what is no tensor of integers of this form, for no codes, a code
        that is not in its alphabet, and lengths that do not fit.
        """
        codes = check_form(codes, self.quantizer.spec, "b", "n")
        if codes.numel() == 0:
            raise ValueError(f"codes of shape {tuple(codes.shape)}: there are none to decode")
        _check_lengths(lengths, codes)
        if lengths is not None:
            codes = codes.masked_fill(~beside(inside(lengths, codes.shape[1]), codes), 0)
        check_codes(codes, self.quantizer.spec)
        return self._decoded(codes, lengths, chunk)

    @torch.no_grad()
    def reconstruct(
        self, waveform: Float[Tensor, "b t"], lengths: Lengths = None
    ) -> Float[Tensor, "b t"]:
        """The waveform after encode and decode: exactly as many samples, zero past each end.

        Without a quantizer that has codes, after the networks, in one piece.
        """
        _check_lengths(lengths, waveform)
        chunk = CHUNK if self.quantizer.spec.has_codes else None
        with self.exactly() if self.quantizer.spec.has_codes else self.in_float32():
            latents = self.latents(waveform.to(self.dtype), lengths, chunk)
        return self.rebuild(latents, waveform.shape[1], lengths)

    @torch.no_grad()
    def rebuild(
        self, latents: Float[Tensor, "b d n"], samples: int, lengths: Lengths = None
    ) -> Float[Tensor, "b t"]:
        """The `samples` of each clip that `reconstruct` gives, from the encoder's output."""
        if not self.quantizer.spec.has_codes:
            return self._quantized_and_decoded(latents, samples, lengths)[0]
        codes = self.quantizer.encode(rearrange(latents, "b d n -> b n d"))
        return trimmed(self._decoded(codes, self.counts(lengths), CHUNK), samples, lengths)

    def _decoded(
        self, codes: Int[Tensor, "b n *levels"], lengths: Lengths, chunk: int
    ) -> Float[Tensor, "b m"]:
        latents = rearrange(self.quantizer.lookup(codes), "b n d -> b d n")
        return self.decoder(latents.to(self.dtype), lengths, chunk)

    def _quantized_and_decoded(
        self, latents: Float[Tensor, "b d n"], samples: int, lengths: Lengths
    ) -> tuple[Float[Tensor, "b t"], Quantized]:
        counts = self.counts(lengths)
        quantized = self._quantized(latents, counts)
        decoded = self.decoder(quantized.latents.to(self.dtype), counts)
        return trimmed(decoded, samples, lengths), quantized

    def _quantized(self, latents: Float[Tensor, "b d n"], counts: Lengths) -> Quantized:
        valid = None if counts is None else inside(counts, latents.shape[2])
        quantized: Quantized = self.quantizer(latents, channels_first=True, mask=valid)
        return quantized


def trimmed(decoded: Float[Tensor, "b m"], samples: int, lengths: Lengths) -> Float[Tensor, "b t"]:
    """The first `samples`, zero past each item's end."""
    return masked(decoded[:, None, :samples], lengths)[:, 0]


def beside(mask: Bool[Tensor, "b n"], codes: Int[Tensor, "b n *levels"]) -> Bool[Tensor, "b n ..."]:
    """The mask with as many dimensions as the codes."""
    return mask.reshape(*mask.shape, *[1] * (codes.ndim - 2))


def _check_lengths(lengths: Lengths, batch: Tensor) -> None:
    if lengths is None:
        return
    if (
        len(lengths) != len(batch)
        or not 1 <= int(lengths.min()) <= int(lengths.max()) <= batch.shape[1]
    ):
        raise ValueError(
            f"lengths={lengths.tolist()} must be {len(batch)} integers from 1 to {batch.shape[1]}, "
            "where each item of the batch ends"
        )
