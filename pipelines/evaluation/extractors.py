"""Feature networks that are files: our own classifiers, and weights whose name promises a hash."""

import re
from pathlib import Path
from typing import Any

from common.files import sha256
from common.hub import HubModel
from pipelines.evaluation.table import Unavailable
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.speech.data import SpeechDataConfig

NO_CLASSIFIER = Unavailable(
    "there is no classifier: run `simvq train-classifier`, set classifier=PATH"
)


def data_name(data: ImageDataConfig | SpeechDataConfig) -> str:
    """A short name of a data set: of its source, or of the folder with its Parquet files."""
    return Path(data.train).parent.name if data.source == "parquet" else Path(data.source).name


def classifier_name(data: ImageDataConfig | SpeechDataConfig, architecture: str, usual: str) -> str:
    """What distances by a classifier's features are called after; its architecture is named unless it is the usual one."""
    parts = (data_name(data), "classifier", *([architecture] if architecture != usual else []))
    return "-".join(parts)


def load_classifier(network: type[HubModel], folder: Path) -> Any:
    """A trained classifier, on the CPU. Raises ValueError for a folder that holds none."""
    if not (folder / "model.safetensors").is_file():
        raise ValueError(
            f"classifier={folder} is not the `model` folder of `simvq train-classifier`: set classifier"
        )
    return network.from_pretrained(folder)


def second_classifier(folder: Path) -> Path:
    """Where the second classifier is, beside the folder `model` of the first."""
    return folder.parent / "second" / "model"


def verified_sha256(path: Path) -> str:
    """The SHA-256 of a file. Raises ValueError where eight digits in the name's end say otherwise."""
    digest = sha256(path)
    promised = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if promised and not digest.startswith(promised[1]):
        raise ValueError(
            f"{path} has the SHA-256 {digest[:8]}..., its name promises {promised[1]}...: download it again"
        )
    return digest
