"""Which guidance, of several, makes samples that lie nearest to the validation items; the test split is not read."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from tqdm.auto import tqdm

from common.config import differences, to_plain
from common.files import hashed, read_json, sha256, write_text
from pipelines.evaluation.features import Features, statistics
from pipelines.evaluation.fidelity import frechet_distance
from pipelines.evaluation.images.data import Batch, image_batches
from pipelines.evaluation.images.extractors import ClassifierExtractor, extract
from pipelines.evaluation.speech.data import read_clips, unlabelled
from pipelines.evaluation.speech.extractors import classifiers
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.load import Pipeline
from pipelines.generation.samples import new_samples
from pipelines.generation.speech import SpeechGenerationPipeline
from pipelines.sample_config import SampleImagesConfig, SampleSpeechConfig
from stage1_tokenizer.images.data import load_images
from stage1_tokenizer.speech.data import load_clips

AT_ONCE = 256
"""Images that the classifier sees at once."""
MOST = 1000
"""Samples of each guidance, at most; and no more than there are validation items, or samples."""


def guidance_distances(
    config: SampleImagesConfig | SampleSpeechConfig, folder: Path, pipeline: Pipeline
) -> dict[float, float]:
    """The Frechet distance to the validation items of samples with each guidance, by the classifier's features.

    Their seeds follow those of the samples to be written. The distances are kept in out/guidance.json for the next
    time. `folder` is the pipeline's.
    """
    assert isinstance(config.guidance, tuple)
    known, request = config.out / "guidance.json", request_of(config, folder)
    saved = read_json(known) if known.is_file() else None
    if saved and not any(differences(saved["request"], request)):
        return dict(zip(config.guidance, saved["distances"], strict=True))
    kind: Any = SpeechFeatures if isinstance(config, SampleSpeechConfig) else ImageFeatures
    measured = kind(config, pipeline)
    real = measured.of_validation()
    count = min(len(real), config.count, MOST)
    if count < 2:
        raise ValueError(
            f"guidance={list(config.guidance)} takes at least 2 samples and 2 validation items to choose by, and there is "
            f"{count}: set guidance to a number, or samples.count"
        )
    distances = []
    for guidance in tqdm(config.guidance, desc="guidance", disable=None):
        trial = replace(config, guidance=guidance, seed=request["seed"])
        samples: Any = new_samples(trial, pipeline)
        items: list[Any] = []
        for first in range(0, count, config.batch_size):
            items += samples.generate(range(first, min(first + config.batch_size, count)))
        distances.append(frechet_distance(statistics(measured.of(items)), statistics(real)))
    found = hashed({"request": request, "distances": distances})
    write_text(known, json.dumps(found, indent=2) + "\n")
    return dict(zip(config.guidance, distances, strict=True))


def request_of(config: SampleImagesConfig | SampleSpeechConfig, folder: Path) -> dict[str, Any]:
    """Everything that decides the distances."""
    assert isinstance(config.guidance, tuple) and config.classifier is not None
    left_out = ("pipeline", "out", "batch_size", "classifier", "guidance", "seed", "modality")
    return {
        "guidance": list(config.guidance),
        "seed": config.seed + config.count,
        "settings": {key: value for key, value in to_plain(config).items() if key not in left_out},
        "tokenizer_sha256": sha256(folder / "tokenizer" / "model.safetensors"),
        "prior_sha256": sha256(folder / "prior" / "model.safetensors"),
        "classifier_sha256": sha256(config.classifier / "model.safetensors"),
    }


class ImageFeatures:
    """The classifier's features of images."""

    def __init__(self, config: SampleImagesConfig, pipeline: ImageGenerationPipeline) -> None:
        assert config.classifier is not None
        self.data, self.tokenizer = config.data, pipeline.tokenizer.config
        self.extractor = ClassifierExtractor(config.classifier, pipeline.device)

    def of_validation(self) -> Features:
        """Of the validation images."""
        channels, size = self.tokenizer.in_channels, self.tokenizer.image_size
        images = load_images(self.data, "validation", channels=channels, size=size)
        return extract([self.extractor], image_batches(images, AT_ONCE))[0]

    def of(self, images: Sequence[Image.Image]) -> Features:
        """Of samples."""
        pixels = torch.stack([TF.pil_to_tensor(image) for image in images])
        none = torch.zeros(len(pixels), dtype=torch.int64)
        parts = zip(pixels.split(AT_ONCE), none.split(AT_ONCE), strict=True)
        return extract([self.extractor], (Batch(part, place, place) for part, place in parts))[0]


class SpeechFeatures:
    """The classifier's features of clips."""

    def __init__(self, config: SampleSpeechConfig, pipeline: SpeechGenerationPipeline) -> None:
        self.data, self.rate = config.data, pipeline.tokenizer.config.sample_rate
        self.extractor = classifiers(config.classifier, self.rate, pipeline.device)[0]

    def of_validation(self) -> Features:
        """Of the validation clips."""
        clips = load_clips(self.data, "validation", sample_rate=self.rate)
        return self.extractor.extract(read_clips(clips))

    def of(self, waveforms: list[Tensor]) -> Features:
        """Of samples."""
        return self.extractor.extract(unlabelled(waveforms, self.rate))
