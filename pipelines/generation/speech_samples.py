"""What is particular to speech in sample: labels, speakers and texts, and WAV files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pipelines.generation.named import in_turn, written_numbers
from pipelines.generation.prompts import Prompts, read_prompts
from pipelines.generation.speech import SpeechGenerationPipeline
from pipelines.sample_config import SampleSpeechConfig
from stage1_tokenizer.speech.figures import save_waveform
from stage2_prior.sampling import lengths_in_codes


class SpeechSamples:
    """The parts of sampling speech that `sample` calls."""

    def __init__(self, config: SampleSpeechConfig, pipeline: SpeechGenerationPipeline) -> None:
        self.config, self.pipeline, prior = config, pipeline, pipeline.prior.config
        labels = written_numbers(config.labels, pipeline.classes, "label") or range(prior.classes)
        named = written_numbers(config.speakers, pipeline.speakers, "speaker")
        speakers = named or range(prior.speakers)
        indices = range(config.count)
        self.labels = in_turn(labels, indices)
        self.speakers = in_turn(speakers, (i // max(len(labels), 1) for i in indices))
        self.texts = in_turn(config.texts, indices)
        pipeline.prior.conditions(
            config.count, labels=self.labels, speakers=self.speakers, texts=self.texts
        )  # a mistake is an error before the folder is there
        _, high = lengths_in_codes(prior, config.min_codes, config.max_codes)
        self.prompts: Prompts | None = None
        if config.prompts is not None:
            self.prompts = self.read_prompts(config.prompts, high // prior.levels)

    def read_prompts(self, folder: Path, positions: int) -> Prompts:
        """The prompts. Raises ValueError for one with no room to continue it within `positions`."""
        config, tokenizer = self.config, self.pipeline.tokenizer.config
        return read_prompts(
            folder,
            config.prompt_seconds,
            config.count,
            tokenizer.sample_rate,
            tokenizer.hop,
            positions,
        )

    @property
    def request(self) -> dict[str, Any]:
        """What decides the samples beside the config."""
        return {
            "modality": self.config.modality,
            "labels": self.labels,
            "speakers": self.speakers,
            "texts": self.texts,
            "prompts": self.prompts and self.prompts.names,
            "prompts_sha256": self.prompts and self.prompts.sha256,
            "classes": list(self.pipeline.classes),
            "speaker_names": list(self.pipeline.speakers),
            "sample_rate": self.pipeline.tokenizer.config.sample_rate,
            "hop": self.pipeline.tokenizer.config.hop,
        }

    def path(self, i: int) -> Path:
        """The file of sample i."""
        return self.config.out / f"{i:06d}.wav"

    def generate(self, chosen: Sequence[int]) -> list[Float[Tensor, " _"]]:
        """The samples of these indices."""
        config = self.config
        output = self.pipeline(
            [self.labels[i] for i in chosen] if self.labels else None,
            [self.speakers[i] for i in chosen] if self.speakers else None,
            [self.texts[i] for i in chosen] if self.texts else None,
            prompts=[self.prompts[i] for i in chosen] if self.prompts else None,
            seeds=[config.seed + i for i in chosen],
            **config.options,
        )
        return output.waveforms

    def save(self, i: int, waveform: Float[Tensor, " _"]) -> None:
        """Writes the file of sample i."""
        save_waveform(waveform, self.pipeline.tokenizer.config.sample_rate, self.path(i))

    def finish(self) -> None:
        """Nothing: the files are all there is."""
