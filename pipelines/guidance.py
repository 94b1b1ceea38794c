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

from common.config import to_plain
from common.files import hashed, read_json, sha256, write_text
from common.runs import differences
from pipelines.evaluation.features import Features, statistics
from pipelines.evaluation.fidelity import frechet_distance
from pipelines.evaluation.images.data import Batch, image_batches
from pipelines.evaluation.images.extractors import ClassifierExtractor as ImageClassifierExtractor
from pipelines.evaluation.images.extractors import extract
from pipelines.evaluation.speech.data import read_clips, unlabelled
from pipelines.evaluation.speech.extractors import classifiers
from pipelines.generation.image_samples import ImageSamples
from pipelines.generation.speech_samples import SpeechSamples
from pipelines.sample_config import SampleImagesConfig, SampleSpeechConfig
from stage1_tokenizer.images.data import load_images
from stage1_tokenizer.speech.data import load_clips

Samples = ImageSamples | SpeechSamples
"""What is particular to a modality: the pipeline, the conditions, the files."""
MOST = 1000
"""Samples of each guidance, at most; and no more than there are validation items, or samples."""


def new_samples(
    config: SampleImagesConfig | SampleSpeechConfig, folder: Path, device: torch.device
) -> Samples:
    """The samples of a config, not generated yet; `folder` holds the pipeline."""
    if isinstance(config, SampleSpeechConfig):
        return SpeechSamples(config, folder, device)
    return ImageSamples(config, folder, device)


def guidance_distances(
    config: SampleImagesConfig | SampleSpeechConfig, folder: Path, device: torch.device
) -> dict[float, float]:
    """The Frechet distance to the validation items of samples with each guidance, by the classifier's features.

    The seeds follow those of the samples proper. What is measured stays in out/guidance.json, and is read from
    there the next time.
    """
    assert isinstance(config.guidance, tuple) and config.classifier is not None
    known = config.out / "guidance.json"
    seed = config.seed + config.count
    left_out = ("pipeline", "out", "batch_size", "classifier", "guidance", "seed", "modality")
    request = {
        "guidance": list(config.guidance),
        "seed": seed,
        "settings": {key: value for key, value in to_plain(config).items() if key not in left_out},
        "tokenizer_sha256": sha256(folder / "tokenizer" / "model.safetensors"),
        "prior_sha256": sha256(folder / "prior" / "model.safetensors"),
        "classifier_sha256": sha256(config.classifier / "model.safetensors"),
    }
    saved = read_json(known) if known.is_file() else None
    if saved and not any(differences(saved["request"], request)):
        return dict(zip(config.guidance, saved["distances"], strict=True))
    distances = []
    real: Features | None = None
    for guidance in tqdm(config.guidance, desc="guidance", disable=None):
        trial: Any = new_samples(replace(config, guidance=guidance, seed=seed), folder, device)
        measure = clip_features if isinstance(trial, SpeechSamples) else image_features
        real = measure(trial, None, device) if real is None else real
        count = min(len(real), config.count, MOST)
        items: list[Any] = []
        for first in range(0, count, config.batch_size):
            items += trial.generate(range(first, min(first + config.batch_size, count)))
        sides = statistics(measure(trial, items, device)), statistics(real)
        distances.append(frechet_distance(*sides))
    found = hashed({"request": request, "distances": distances})
    write_text(known, json.dumps(found, indent=2) + "\n")
    return dict(zip(config.guidance, distances, strict=True))


def image_features(
    samples: ImageSamples, images: Sequence[Image.Image] | None, device: torch.device
) -> Features:
    """The classifier's features of samples, or for None of the validation images."""
    config, tokenizer = samples.config, samples.pipeline.tokenizer.config
    assert config.classifier is not None
    extractor = ImageClassifierExtractor(config.classifier, device)
    if images is None:
        real = load_images(
            config.data, "validation", channels=tokenizer.in_channels, size=tokenizer.image_size
        )
        return extract([extractor], image_batches(real, 256))[0]
    pixels = torch.stack([TF.pil_to_tensor(image) for image in images])
    none = torch.zeros(len(pixels), dtype=torch.int64)
    return extract([extractor], iter([Batch(pixels, none, none)]))[0]


def clip_features(
    samples: SpeechSamples, waveforms: list[Tensor] | None, device: torch.device
) -> Features:
    """The classifier's features of samples, or for None of the validation clips."""
    config, rate = samples.config, samples.pipeline.tokenizer.config.sample_rate
    extractor = classifiers(config.classifier, rate, device)[0]
    if waveforms is None:
        return extractor.extract(
            read_clips(load_clips(config.data, "validation", sample_rate=rate))
        )
    return extractor.extract(unlabelled(waveforms, rate))
