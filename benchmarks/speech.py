"""Real-time factors of our speech codec beside EnCodec, DAC and Mimi of transformers; and of sampling speech.

All networks are new ones of the published sizes, ours as configs/librispeech.yaml has it. Multiply-adds per second of
sound (torch.utils.flop_counter, LSTMs by hand): ours 0.80e9 in the encoder's convolutions, 0.21e9 in its LSTM, whose
recurrent weights, 4 MB per layer, are read anew for each of 50 codes, and 3.06e9 in the decoder, nearly all in matrix
products; EnCodec 1.2e9 + 1.2e9 and its LSTMs, Mimi 2.7e9 + 2.7e9, DAC 11e9 + 25e9.

A sample of speech is 50 steps of the prior per second, each of which reads all its weights, and the decoder's work.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.codecs import NAMES, Codec, codec
from benchmarks.side_by_side import Timing, alternate, report, weighed
from common.config import load_config
from common.processes import processes
from pipelines import SpeechGenerationPipeline
from stage1_tokenizer import SpeechTokenizer
from stage2_prior import Prior, PriorConfig
from stage2_prior.decoding import Size


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of the tables."""

    seconds: float = 10.0
    """Of the waveform that is encoded and decoded."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads to take turns with."""
    thinner: int = 1
    """What the networks' channels are divided by."""
    prior: Size = "85m"
    """The size of the prior that is sampled from, that of configs/librispeech.yaml."""
    batches: tuple[int, ...] = (1, 16)
    """Samples in one batch."""
    sampled_seconds: float = 2.0
    """Of each sample."""
    rounds: int = 5
    memory: bool = True
    """Whether peak memory is measured, in a process per codec."""


@dataclass(frozen=True, kw_only=True)
class Coded:
    """One codec with one number of threads."""

    name: str
    threads: int
    parameters: int
    bits_per_second: float
    sample_rate: int
    samples_in: int
    samples_out: int
    encode: Timing
    decode: Timing
    added_gib: float | None
    """What encoding and decoding add to the memory."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Sampling in one batch size with one number of threads."""

    threads: int
    batch: int
    parameters: int
    """Of the prior."""
    samples: int
    """Samples of sound in each waveform."""
    seconds: float
    """Of each waveform."""
    taken: Timing


def compare(sizes: Sizes) -> tuple[list[Coded], list[Sampled]]:
    """All codecs, and our sampling, in turn with each number of threads."""
    before = torch.get_num_threads()
    codecs = {name: codec(name, sizes.thinner) for name in NAMES}
    memory = {
        name: weighed(coding, name, sizes.thinner, sizes.seconds) if sizes.memory else None
        for name in codecs
    }
    ours = codecs["simvq"].network
    assert isinstance(ours, SpeechTokenizer)
    coded: list[Coded] = []
    sampled: list[Sampled] = []
    for threads in sizes.threads:
        torch.set_num_threads(threads)
        coded += coded_by(codecs, sizes, memory)
        sampled += sampled_by(pipeline(ours, sizes), sizes)
    torch.set_num_threads(before)
    return coded, sampled


def noise(seconds: float, sample_rate: int) -> torch.Tensor:
    """What is encoded: codecs do not care what it is."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(1, round(seconds * sample_rate), generator=generator)


def coding(name: str, thinner: int, seconds: float) -> Callable[[], object]:
    """Encoding and decoding by a new codec."""
    device = processes().device
    chosen = codec(name, thinner)
    chosen.network.to(device)
    waveform = noise(seconds, chosen.sample_rate).to(device)

    @torch.no_grad()
    def work() -> object:
        return chosen.decode(chosen.encode(waveform))

    return work


@torch.no_grad()
def coded_by(
    codecs: dict[str, Codec], sizes: Sizes, memory: dict[str, float | None]
) -> list[Coded]:
    """Encoding, then decoding, by all codecs in turn."""
    device = processes().device
    sounds, codes, decoded = {}, {}, {}
    for name, one in codecs.items():
        one.network.to(device)
        sounds[name] = noise(sizes.seconds, one.sample_rate).to(device)
        codes[name] = one.encode(sounds[name])
        decoded[name] = one.decode(codes[name])
    encode = {name: lambda n=name: codecs[n].encode(sounds[n]) for name in codecs}
    decode = {name: lambda n=name: codecs[n].decode(codes[n]) for name in codecs}
    encoding = alternate(encode, sizes.rounds, device)
    decoding = alternate(decode, sizes.rounds, device)
    return [
        Coded(
            name=name,
            threads=torch.get_num_threads(),
            parameters=one.parameters,
            bits_per_second=one.bits_per_second,
            sample_rate=one.sample_rate,
            samples_in=sounds[name].shape[1],
            samples_out=decoded[name].shape[1],
            encode=encoding[name],
            decode=decoding[name],
            added_gib=memory[name],
        )
        for name, one in codecs.items()
    ]


def pipeline(tokenizer: SpeechTokenizer, sizes: Sizes) -> SpeechGenerationPipeline:
    """A prior over the tokenizer's codes whose samples have one length, and the tokenizer."""
    length = round(sizes.sampled_seconds * tokenizer.config.codes_per_second)
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=tokenizer.quantizer.spec.alphabet,
        code_dim=tokenizer.quantizer.config.code_dim,
        length=length,
        size=sizes.prior,
        min_codes=length,
        max_codes=length,
    )
    return SpeechGenerationPipeline(tokenizer, Prior(config), [], []).to(processes().device)


def sampled_by(pipe: SpeechGenerationPipeline, sizes: Sizes) -> list[Sampled]:
    """Sampling in all batch sizes in turn, from seeds to waveforms."""
    ways = {str(batch): lambda b=batch: pipe(seeds=range(b)) for batch in sizes.batches}
    taken = alternate(ways, sizes.rounds, pipe.device)
    samples = len(pipe(seeds=[0]).waveforms[0])
    return [
        Sampled(
            threads=torch.get_num_threads(),
            batch=batch,
            samples=samples,
            parameters=sum(weights.numel() for weights in pipe.prior.parameters()),
            seconds=samples / pipe.tokenizer.config.sample_rate,
            taken=taken[str(batch)],
        )
        for batch in sizes.batches
    ]


def coded_rows(coded: list[Coded], seconds: float) -> list[list[str]]:
    """A line per codec and number of threads."""
    ours = {one.threads: one for one in coded if one.name == "simvq"}
    return [
        [
            str(one.threads),
            one.name,
            f"{one.parameters / 1e6:.1f} M",
            f"{one.sample_rate / 1000:g} kHz, {one.bits_per_second / 1000:.2f} kbps",
            f"{one.encode.median / seconds:.4f}",
            f"{one.decode.median / seconds:.4f}",
            f"{one.encode.median / ours[one.threads].encode.median:.2f}",
            f"{one.decode.median / ours[one.threads].decode.median:.2f}",
            "" if one.added_gib is None else f"{one.added_gib:.2f} GiB",
        ]
        for one in coded
    ]


def sampled_rows(sampled: list[Sampled]) -> list[list[str]]:
    """A line per batch size and number of threads."""
    return [
        [
            str(one.threads),
            f"{one.parameters / 1e6:.1f} M",
            str(one.batch),
            f"{one.taken.median / one.seconds:.3f}",
            f"{one.taken.median / one.seconds / one.batch:.3f}",
        ]
        for one in sampled
    ]


CODED = (
    *("threads", "codec", "parameters", "sound", "encode: s per s", "decode: s per s"),
    *("encode / ours", "decode / ours", "memory added"),
)
SAMPLED = (
    *("threads", "prior", "batch", "each sample: s per s of it"),
    "s per s of all samples together",
)


def main(overrides: list[str]) -> None:
    """Measures, prints and writes both tables."""
    sizes = load_config(Sizes, None, overrides)
    coded, sampled = compare(sizes)
    report("speech_codecs", CODED, coded_rows(coded, sizes.seconds), coded)
    report("speech_samples", SAMPLED, sampled_rows(sampled), sampled)


if __name__ == "__main__":
    main(sys.argv[1:])
