"""SpeechGenerationPipeline: labels, speakers, texts and seeds to new speech, or to what follows a clip."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipelines.generation.known import beginning, check_kinds
from pipelines.generation.named import Named, listed, numbers_of, seeds_of
from pipelines.generation.pipeline_folder import GenerationPipeline
from stage1_tokenizer import SpeechTokenizer
from stage2_prior import Prior
from stage2_prior.sampling import sample_codes, trimmed
from stage2_prior.sampling_options import SamplingOptions


@dataclass
class SpeechOutput:
    """What a call of the pipeline gives."""

    waveforms: list[Float[Tensor, " _"]]
    """In [-1, 1], each of its own length."""
    codes: list[Int[Tensor, "_ *levels"]]
    seeds: list[int]
    sample_rate: int


class SpeechGenerationPipeline(GenerationPipeline[SpeechTokenizer]):
    """A tokenizer and a prior that fit each other; both are put into eval mode.

    On disk, a folder or a Hub repository:

        pipeline.json     names of the classes and speakers, and the SHA-256 of both weights
        tokenizer/        SpeechTokenizer.save_pretrained
        prior/            Prior.save_pretrained

    Labels and speakers are names or numbers:

        >>> pipe = SpeechGenerationPipeline.from_pretrained("speech_pipeline")
        >>> pipe.classes, pipe.speakers
        (('a', 'b', 'c'), ('x', 'y'))
        >>> out = pipe(labels="b", speakers="y", seeds=[7], max_codes=8)
        >>> len(out.waveforms), len(out.waveforms[0]) == len(out.codes[0]) * pipe.tokenizer.config.hop
        (1, True)
    """

    tokenizer_class = SpeechTokenizer
    names = ("classes", "speakers")

    def __init__(
        self,
        tokenizer: SpeechTokenizer,
        prior: Prior,
        classes: Sequence[str],
        speakers: Sequence[str],
    ) -> None:
        of_tokenizer, of_prior = tokenizer.quantizer.spec.sizes, prior.config.level_sizes
        if of_tokenizer != of_prior:
            raise ValueError(
                f"the tokenizer has {' x '.join(map(str, of_tokenizer))} codes, the prior was trained on "
                f"{' x '.join(map(str, of_prior))}"
            )
        self.tokenizer, self.prior = tokenizer.eval(), prior.eval()
        self.classes, self.speakers = tuple(classes), tuple(speakers)

    def __call__(
        self,
        labels: Named | Sequence[Named] | None = None,
        speakers: Named | Sequence[Named] | None = None,
        texts: str | Sequence[str] | None = None,
        *,
        prompts: Float[Tensor, " _"] | Sequence[Float[Tensor, " _"]] | None = None,
        seeds: int | Sequence[int] | None = None,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_codes: int | None = None,
        max_codes: int | None = None,
        repetitions: int | None = None,
        known: Sequence[Int[Tensor, "_ *levels"]] | None = None,
        mask: Sequence[Bool[Tensor, " _"]] | None = None,
    ) -> SpeechOutput:
        """Samples one waveform per label, speaker, text, prompt or `known`, or else one per seed.

        Labels and speakers are names or numbers, and a prior that learned both takes both, or neither. A single label,
        speaker or text serves all samples. A prompt is a waveform at the tokenizer's rate: the codes of its whole hops
        begin the sample. The same condition and seed give the same codes in any batch. Seeds are 0, 1, 2, ... unless
        given. A sample has as many positions as its mask and keeps its `known` codes where this is True; the others are
        sampled given these. Raises ValueError for a mask that this prior can't complete (see docs/completion.md).
        """
        options = SamplingOptions(
            guidance=guidance,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_codes=min_codes,
            max_codes=max_codes,
            repetitions=repetitions,
        )
        arguments = self.condition_arguments(labels, speakers, texts)
        return self.sample(arguments, prompts, seeds, options, known, mask)

    def sample(
        self,
        arguments: dict[str, Any],
        prompts: Float[Tensor, " _"] | Sequence[Float[Tensor, " _"]] | None,
        seeds: int | Sequence[int] | None,
        options: SamplingOptions,
        known: Sequence[Int[Tensor, "_ *levels"]] | None,
        mask: Sequence[Bool[Tensor, " _"]] | None,
    ) -> SpeechOutput:
        """What a call gives; `arguments` are those of `Prior.conditions`."""
        check_kinds(known, mask)
        prompts = None if prompts is None else waveforms_of(prompts)
        every = (*arguments.values(), prompts, known)
        per_sample = [len(given) for given in every if given is not None]
        seeds = seeds_of(seeds, max(per_sample, default=1))
        arguments = {
            name: given * len(seeds) if given is not None and len(given) == 1 else given
            for name, given in arguments.items()
        }
        levels, spec = self.prior.config.levels, self.tokenizer.quantizer.spec
        if mask is not None:
            if (options.min_codes, options.max_codes, prompts) != (None, None, None):
                raise ValueError(
                    "a mask says where its sample begins and ends: leave prompts, min_codes and max_codes out"
                )
            longest = max(map(len, mask)) * levels
            options = replace(options, min_codes=longest, max_codes=longest)
        conditions = self.prior.conditions(len(seeds), **arguments)
        begin = beginning(spec, self.prior, conditions, seeds, known, mask)
        first = begin.prompts
        if prompts is not None:
            first = [self.encoded(prompt).flatten() for prompt in prompts]
        codes = trimmed(
            sample_codes(self.prior, begin.conditions, seeds, options, first, begin.order)
        )
        if mask is not None:
            codes = [codes[i][: len(one) * levels] for i, one in enumerate(mask)]
        if levels > 1:
            codes = [sample.unflatten(0, (-1, levels)) for sample in codes]
        rate = self.tokenizer.config.sample_rate
        return SpeechOutput(self.decoded(codes), [sample.cpu() for sample in codes], seeds, rate)

    def condition_arguments(
        self,
        labels: Named | Sequence[Named] | None,
        speakers: Named | Sequence[Named] | None,
        texts: str | Sequence[str] | None,
    ) -> dict[str, Any]:
        """The arguments of `Prior.conditions`: labels and speakers as numbers, and each of the three a list."""
        texts = None if texts is None else listed(texts)
        if not all(isinstance(text, str) for text in texts or ()):
            raise ValueError(f"texts={texts} must be strings, one for each sample")
        return {
            "labels": numbers_of(labels, self.classes, "label"),
            "speakers": numbers_of(speakers, self.speakers, "speaker"),
            "texts": texts,
        }

    def decoded(self, codes: Sequence[Int[Tensor, "_ *levels"]]) -> list[Float[Tensor, " _"]]:
        """The waveform of each sequence of codes."""
        lengths = torch.tensor([len(sample) for sample in codes], device=codes[0].device)
        padded = pad_sequence(list(codes), batch_first=True)
        sizes = (lengths * self.tokenizer.config.hop).tolist()
        waveforms = self.tokenizer.decode(padded, lengths).clamp(-1, 1).cpu()
        return [waveform[:size] for waveform, size in zip(waveforms, sizes, strict=True)]

    def encoded(self, prompt: Float[Tensor, " t"]) -> Int[Tensor, "n *levels"]:
        """The codes of a clip's whole hops. Raises ValueError for one that has none."""
        hop = self.tokenizer.config.hop
        size = len(prompt) // hop * hop
        if not size:
            raise ValueError(
                f"a prompt of {len(prompt)} samples is shorter than one code, {hop} samples: give more of it"
            )
        return self.tokenizer.encode(prompt[None, :size].to(self.device))[0]


def waveforms_of(prompts: Any) -> list[Float[Tensor, " _"]]:
    """One waveform or several, of arrays too, as float tensors. Raises ValueError for other shapes."""
    if isinstance(prompts, str):
        raise ValueError(f"prompts={prompts!r} are no waveforms: read the file first")
    one = hasattr(prompts, "ndim") and prompts.ndim == 1
    waveforms = [torch.as_tensor(each) for each in ([prompts] if one else prompts)]
    for waveform in waveforms:
        if waveform.ndim != 1 or not waveform.is_floating_point():
            raise ValueError(
                f"a prompt of the shape {tuple(waveform.shape)} and of {waveform.dtype}: give waveforms of floats, (t,)"
            )
    return waveforms
