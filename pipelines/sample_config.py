"""What sample reads: the keys that all modalities share, and those of each."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from common.bounds import Count, NonNegative, Positive, Seed, Whole, Within
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.speech.data import SpeechDataConfig
from stage2_prior.sampling_options import SamplingOptions, Schedule


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What sample reads, whatever the modality."""

    pipeline: Path
    """The `pipeline/` folder of a prior's run, or its name on the Hub."""
    out: Path
    """The folder of the samples; running again goes on with those that are missing."""
    count: Count = 1000
    """Samples, in all."""
    labels: tuple[int | str, ...] | int | str | None = None
    """Names or numbers of labels: sample i gets label i modulo their count; null takes all in turn, if any exist."""
    seed: Seed = 0
    """Sample i has the seed `seed + i`."""
    guidance: float | tuple[float, ...] = 1.0
    """Scale s of u + s (c - u), where c and u are the logits with and without the condition; 1 is no guidance. From a
    list, the scale whose samples lie nearest to the validation items is used."""
    classifier: Path | None = None
    """The folder `model` of `simvq train-classifier`; its features choose the guidance from a list."""
    temperature: NonNegative = 1.0
    """Divides the logits; 0 takes the likeliest code."""
    top_k: Whole = 0
    """Keep the k likeliest codes; 0 keeps all."""
    top_p: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Keep the fewest codes that reach this probability together."""
    batch_size: Count = 64
    """Samples generated at once by each process."""

    @property
    def options(self) -> dict[str, Any]:
        """The keys that say how codes are sampled, for a pipeline."""
        assert not isinstance(self.guidance, tuple), "a list is chosen from before"
        names = {field.name for field in fields(SamplingOptions)}
        return {name: value for name, value in vars(self).items() if name in names}

    def __post_init__(self) -> None:
        if isinstance(self.guidance, tuple) and (not self.guidance or self.classifier is None):
            raise ValueError(
                f"guidance={list(self.guidance)} is a list to choose from, by the features of "
                f"classifier={self.classifier}: set guidance to a number, or set classifier"
            )


@dataclass(frozen=True, kw_only=True)
class SampleImagesConfig(SampleConfig):
    """Samples new images: `simvq sample CONFIG [key=value ...]`."""

    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    """The images whose validation split chooses the guidance from a list."""
    modality: Literal["images"] = "images"
    schedule: Schedule = "constant"
    """Course of the guidance along the codes: `constant`, `linear` or `power-cosine`."""
    power: NonNegative = 2.0
    """The exponent of power-cosine."""


@dataclass(frozen=True, kw_only=True)
class SampleSpeechConfig(SampleConfig):
    """Samples new speech: `simvq sample CONFIG [key=value ...]`."""

    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    """The clips whose validation split chooses the guidance from a list."""
    modality: Literal["speech"] = "speech"
    speakers: tuple[int | str, ...] | int | str | None = None
    """Names or numbers of speakers: each says every label before the next begins; null takes all, if there are any."""
    texts: tuple[str, ...] | None = None
    """Sample i says text i modulo their count, where the prior's condition is text; null for none."""
    prompts: Path | None = None
    """A folder of audio files: sample i continues file i, sorted by name, modulo their count; null for none."""
    prompt_seconds: Positive | None = None
    """Seconds from the start of each prompt that its sample continues; null for the whole prompt."""
    min_codes: Whole | None = None
    """No sample ends before it has so many codes; null for the prior's own."""
    max_codes: Count | None = None
    """Every sample ends when it has so many codes; null for the prior's own."""
    repetitions: Whole | None = None
    """A code that occurs more often than this among the last 10 is sampled again from the whole distribution;
    null for never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        seconds = self.prompt_seconds
        if seconds is not None and (self.prompts is None or not seconds > 0):
            raise ValueError(
                f"prompt_seconds={seconds} must be positive and needs prompts, a folder of audio files, "
                f"which is {self.prompts}: set prompts or prompt_seconds"
            )
