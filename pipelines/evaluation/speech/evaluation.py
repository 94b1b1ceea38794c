"""What scoring does with speech: the sets of the table, and what is played and shown beside it."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from common.seeding import epoch_order
from pipelines.evaluation.comparison import Comparison, distances
from pipelines.evaluation.config import ScoreSpeechConfig
from pipelines.evaluation.controls import (
    code_tables,
    control_sequences,
    scrambled_clip,
    shares,
    train_to_train,
)
from pipelines.evaluation.features import (
    Extractor,
    References,
    cache_key,
    cached_reference,
    limited,
)
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.evaluation.report import AudioPlayers, Figure
from pipelines.evaluation.speech.data import Clips, read_clips, sampled_clips, unlabelled
from pipelines.evaluation.speech.extractors import (
    NO_UTMOS,
    SpeechExtractor,
    Utmos,
    VoiceExtractor,
    classifiers,
    load_whisper,
)
from pipelines.evaluation.speech.figures import (
    durations_figure,
    reconstruction_figures,
    sample_figures,
)
from pipelines.evaluation.speech.packages import MissingPackageError
from pipelines.evaluation.speech.rows import (
    ClipSet,
    as_set,
    bitrate,
    closeness,
    heldout_bits,
    sound,
    to_train,
)
from pipelines.evaluation.table import Metrics, Unavailable
from stage1_tokenizer.speech.data import load_clips


class SpeechEvaluation:
    """The parts of scoring speech that `score` calls."""

    items = "clips"

    def __init__(
        self,
        config: ScoreSpeechConfig,
        reconstructor: Reconstructor,
        sampling: dict[str, Any] | None,
    ) -> None:
        self.config, self.reconstructor = config, reconstructor
        rate, device = reconstructor.tokenizer.config.sample_rate, reconstructor.device
        if sampling and sampling["sample_rate"] != rate:
            raise ValueError(
                f"samples={config.samples} are at {sampling['sample_rate']} Hz, tokenizer="
                f"{config.tokenizer} at {rate} Hz: set tokenizer or samples"
            )
        train_data = load_clips(config.data, "train", sample_rate=rate)
        self.datasets = {
            "train": limited(train_data, config.reference_count, config.seed),
            "held-out": load_clips(config.data, config.data.scored, sample_rate=rate),
        }
        self.sampled: Clips | None = None
        if config.samples and sampling:
            self.sampled = sampled_clips(config.samples, sampling)
        self.real = {split: read_clips(dataset) for split, dataset in self.datasets.items()}
        extractors: list[SpeechExtractor] = [*classifiers(config.classifier, rate, device)]
        with contextlib.suppress(MissingPackageError):
            extractors.append(VoiceExtractor(device))
        self.references = [self.compare_by(extractor) for extractor in extractors]
        self.whisper = load_whisper(config.whisper, device)
        self.utmos = Utmos(config.utmos, device) if config.utmos else NO_UTMOS

    def compare_by(self, extractor: SpeechExtractor) -> References[SpeechExtractor]:
        """The real clips by an extractor's features, from the cache if they are there."""
        train, heldout = (
            cached_reference(
                split,
                cache_key(split, dataset, extractor, sample_rate=dataset.sample_rate),
                self.config.cache,
                partial(extractor.extract, self.real[split]),
            )
            for split, dataset in self.datasets.items()
        )
        return References(extractor, train, heldout)

    def extracted(self, clips: Clips) -> ClipSet:
        """Clips and their features by each extractor."""
        compared = (Comparison(real.extractor.extract(clips), real) for real in self.references)
        return ClipSet(clips, tuple(compared))

    def metrics(self) -> dict[str, Metrics]:
        """The metrics of each set of the table."""
        config, networks = self.config, (self.utmos, self.whisper, self.config.slow_count)
        compared = tuple(Comparison(each.heldout.features, each) for each in self.references)
        real, train = ClipSet(self.real["held-out"], compared), self.real["train"]
        rebuilt = self.extracted(self.reconstructions)
        metrics = {
            "ground truth": sound(real, *networks),
            "reconstruction": closeness(real, rebuilt, config.voicing, config.slow_count)
            | bitrate(self.reconstructor)
            | self.reconstructor.metrics()
            | sound(rebuilt, *networks)
            | distances(rebuilt.by_extractor, "held-out")
            | to_train(rebuilt, config.seed),
        }
        if self.sampled:
            samples = self.extracted(self.sampled)
            controls = {name: self.extracted(clips) for name, clips in self.controls()}
            sets = {"samples": samples, "reconstruction": rebuilt} | controls
            by_extractor = {name: each.by_extractor for name, each in sets.items()}
            metrics["samples"] = (
                {"held-out bits per second of audio": heldout_bits(config.prior_run)}
                | sound(samples, *networks)
                | as_set(samples, train, config.seed)
                | shares(by_extractor, config.seed)
            )
            metrics |= {name: to_train(control, config.seed) for name, control in controls.items()}
        metrics["held-out vs train"] = as_set(real, train, config.seed)
        metrics["train vs train"] = train_to_train(self.references)
        return metrics

    def controls(self) -> Iterator[tuple[str, Clips]]:
        """What samples must be better than: as many clips as there are samples, if so many are held out."""
        assert self.sampled is not None
        real = self.real["held-out"]
        count = min(len(self.sampled), len(real))
        if self.config.codes and self.reconstructor.spec.has_codes:
            tables = code_tables(self.config.codes, self.reconstructor.spec.levels)
            for name, sequences in control_sequences(tables, count, self.config.seed):
                yield name, unlabelled([*map(self.decoded, sequences)], real.sample_rate)
        chosen = epoch_order(len(real), self.config.seed, 0)[:count].tolist()
        scrambled = [scrambled_clip(real.waveforms[i], i) for i in chosen]
        yield "scrambled", unlabelled(scrambled, real.sample_rate)

    def decoded(self, codes: Int[Tensor, " n"]) -> Float[Tensor, " t"]:
        """The waveform of a sequence of codes."""
        tokenizer, levels = self.reconstructor.tokenizer, self.reconstructor.spec.levels
        by_position = codes.unflatten(0, (-1, levels)) if levels > 1 else codes
        return (
            tokenizer.decode(by_position[None].to(self.reconstructor.device))[0].cpu().clamp(-1, 1)
        )

    @cached_property
    def reconstructions(self) -> Clips:
        """The held-out clips through integers and back, each exactly as long as its original."""
        rebuilt = [
            self.reconstructor(waveform[None])[0, : len(waveform)].cpu()
            for waveform in self.real["held-out"].waveforms
        ]
        return replace(self.real["held-out"], waveforms=rebuilt)

    def figures(self) -> list[Figure | AudioPlayers]:
        """Samples and reconstructions to hear and to see, and durations."""
        sets = dict(self.real)
        figures: list[Figure | AudioPlayers] = []
        if self.sampled:
            sets["samples"] = self.sampled
            figures += sample_figures(self.sampled)
        figures += reconstruction_figures(self.real["held-out"], self.reconstructions)
        return [*figures, durations_figure(sets)]

    @property
    def extractors(self) -> list[Extractor]:
        others = self.whisper, self.utmos
        return [each.extractor for each in self.references] + [
            network for network in others if not isinstance(network, Unavailable)
        ]

    def data(self) -> dict[str, dict[str, Any]]:
        """What the training and the held-out clips are, and what decoding them changes."""
        return {
            split: {
                "count": len(self.real[split]),
                "not_decoded": len(self.real[split].bad),
                "data_fingerprint": dataset.fingerprint,
                "conversions": dataset.conversions(),
            }
            for split, dataset in self.datasets.items()
        }
