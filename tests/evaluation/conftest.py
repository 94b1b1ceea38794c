"""Real parts that the tests of several modules share: networks, and whole scores."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.codes import write_codes
from helpers.features import CPU
from helpers.image_runs import MODEL
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from common.files import sha256
from pipelines.evaluation.classifier import train_classifier
from pipelines.evaluation.config import ScoreImagesConfig, TrainImageClassifierConfig
from pipelines.evaluation.images.classifier import ImageClassifier, ImageClassifierConfig
from pipelines.evaluation.images.extractors import ClassifierExtractor
from pipelines.evaluation.score import score
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.quantizers import SimVQConfig
from stage1_tokenizer.tokenizer import code_source


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainImageClassifierConfig:
    """A finished run, which learned the digits."""
    folder = tmp_path_factory.mktemp("classifier") / "run"
    config = TrainImageClassifierConfig(run_dir=folder, steps=150)
    train_classifier(config)
    return config


class Unloaded(FeatureExtractorInceptionV3):
    """torch-fidelity's Inception as its constructor initialises it."""

    def load_state_dict(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        """Nothing: the random weights stay."""


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ClassifierExtractor:
    folder = tmp_path_factory.mktemp("classifier") / "model"
    torch.manual_seed(0)
    config = ImageClassifierConfig(name="digits-classifier", classes=("a", "b", "c"))
    ImageClassifier(config).save_pretrained(folder)
    return ClassifierExtractor(folder, CPU)


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of Inception's weights, but random ones."""
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.manual_seed(0)
    torch.save({}, path)
    network = Unloaded("inception", ["2048"], feature_extractor_weights_path=str(path))
    for layer in network.modules():
        if isinstance(
            layer, torch.nn.Conv2d
        ):  # the constructor's weights let all features fade to 0
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The folder of a small CLIP with random weights."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        image_size=28,
        patch_size=14,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=6,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@contextmanager
def no_weights_in(folder: Path) -> Iterator[None]:
    """torch.hub's folder is an empty one."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(folder)
    yield
    torch.hub.set_dir(before)


@pytest.fixture(scope="module")
def no_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with no_weights_in(tmp_path_factory.mktemp("hub")):
        yield


COUNT = 60


@pytest.fixture(scope="session")
def setting(tmp_path_factory: pytest.TempPathFactory) -> ScoreImagesConfig:
    """An untrained tokenizer and classifier, noise as samples, two lines of metrics."""
    root = tmp_path_factory.mktemp("score")
    torch.manual_seed(0)
    quantizer = SimVQConfig(codebook_size=16, code_dim=4)
    tokenizer = ImageTokenizer(dataclasses.replace(MODEL, quantizer=quantizer))
    tokenizer.save_pretrained(root / "tokenizer")
    digits = tuple(map(str, range(10)))
    classifier = ImageClassifier(ImageClassifierConfig(name="digits-classifier", classes=digits))
    classifier.save_pretrained(root / "classifier")
    (root / "samples").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1), dtype=np.uint8)
    np.savez(root / "samples" / "samples.npz", pixels)
    sampling = {
        "count": COUNT,
        "labels": [i % 10 for i in range(COUNT)],
        "seeds": list(range(5, 5 + COUNT)),
        "guidance": 1.5,
        "schedule": "constant",
        "temperature": 0.9,
        "top_k": 0,
        "top_p": 1.0,
        "classes": digits,
        "tokenizer_sha256": sha256(root / "tokenizer" / "model.safetensors"),
        "prior_sha256": "b" * 64,
        "versions": {},
    }
    (root / "samples" / "sample.json").write_text(json.dumps(sampling))
    (root / "run").mkdir()
    lines = [
        {"step": s, "loss/total": 2.0 - s, "heldout/psnr": 9.0, "loss/train": 1.0} for s in (1, 2)
    ]
    (root / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    random = np.random.default_rng(1)
    codes = [random.integers(0, 16, 16).tolist() for _ in range(30)]
    write_codes(root / "codes" / "train", codes)
    source = code_source(root / "tokenizer", {})
    manifest = {"codebook_size": 16, "histogram": list(range(16)), **source}
    (root / "codes" / "manifest.json").write_text(json.dumps(manifest))
    return ScoreImagesConfig(
        tokenizer=root / "tokenizer",
        samples=root / "samples",
        classifier=root / "classifier",
        codes=root / "codes",
        tokenizer_run=root / "run",
        prior_run=root / "run",
        cache=root / "cache",
        out=root / "out",
    )


@pytest.fixture(scope="session")
def report(setting: ScoreImagesConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with no_weights_in(tmp_path_factory.mktemp("hub")):
        return score(setting)
